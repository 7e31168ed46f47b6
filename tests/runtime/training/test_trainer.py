"""Training a tiny hierarchy."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Budget, ObjectiveSettings, Optimizer
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.metric_names import OF_THE_MACHINE
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents.noise import set_noise_scheme
from hvdsl.runtime.layers import BatchNormSiLU, Conv2d, Own, Recipe, initialize
from hvdsl.runtime.objective.elbo import ModelBatch, Objective
from hvdsl.runtime.training.folder.checkpoint import CheckpointError
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.guard import TrainingStalledError
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.step.recipes import checkpoint_groups
from hvdsl.runtime.training.trainer import Periodic, Trainer, TrainingResult
from tests.runtime.training.tiny_hierarchy import Blobs, TinyHierarchy, settings, tiny


def part(n: int = 8, first: int = 0, step: int = 0, dtype: torch.dtype = torch.float32) -> ModelBatch:
    model = tiny()
    v = torch.from_numpy(Blobs(64).batch(range(first, first + n)).astype("float32")).to(dtype)
    return ModelBatch(model.input(v), model.target(v), SampleNoise(0, range(first, first + n), step))


def optimization(model: nn.Module, **train: Any) -> Optimization:
    chosen = settings(**{"warmup": Duration(n=0), **train}).train
    assert chosen is not None
    return Optimization(model, chosen, objective(), Clock(8, None))


def objective() -> Objective:
    return Objective(settings().objective, Clock(8, None).steps)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(optimization: Optimization) -> dict[str, dict[str, Tensor]]:
    return {part: {name: t.clone() for name, t in tensors.items()} for part, tensors in optimization.tensors().items()}


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def trainer(model: nn.Module, run: Run | None = None, **train: Any) -> Trainer:
    return Trainer(model, settings(**train), Blobs(20), run=run)


def test_training_lowers_the_objective() -> None:
    made = optimization(tiny(), optimizer=Optimizer(kind="adam", lr=1e-2))
    losses = [made.step([part(16, step=i)]).loss for i in range(30)]
    assert sum(losses[-5:]) / 5 < 0.8 * losses[0]


def test_a_step_reports_terms_that_add_up_to_the_loss() -> None:
    result = optimization(tiny()).step([part()])
    assert result.applied
    assert len(result.terms["rate_per_group_nats_per_image"]) == 3
    assert sum(result.terms["rate_per_group_nats_per_image"]) / 64 == pytest.approx(
        result.terms["rate_nats_per_dim"][0], rel=1e-6
    )
    total = result.terms["distortion_nats_per_dim"][0] + result.terms["rate_nats_per_dim"][0]
    assert result.loss == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("broken", ["nan", "large"])
def test_a_skipped_step_changes_nothing_but_the_schedule(broken: str) -> None:
    model = tiny()
    made = optimization(model, warmup=Duration(n=4), skip_above=20.0)
    for i in range(2):
        made.step([part(step=i)])
    before = copied(made)
    bad = part()
    x = bad.x * 1e6 if broken == "large" else torch.full_like(bad.x, math.nan)
    result = made.step([ModelBatch(x, bad.target, bad.noise)])
    assert not result.applied
    assert all(same(before[name], dict(tensors)) for name, tensors in made.tensors().items())
    assert made.guard.skipped == 1
    assert made.step([part()]).learning_rate == pytest.approx(3e-3 * 3 / 4)


def test_the_limit_is_compared_with_the_norm_before_clipping() -> None:
    norm = optimization(tiny()).step([part()]).gradient_norm
    result = optimization(tiny(), clip=norm / 10, skip_above=norm / 2).step([part()])
    assert not result.applied
    assert result.gradient_norm == norm


def test_the_limit_is_the_one_that_is_set_and_the_averages_follow_applied_steps_alone() -> None:
    norm = optimization(tiny()).step([part()]).gradient_norm
    for limit, applied in ((1.001 * norm, True), (0.999 * norm, False)):
        made = optimization(tiny(), skip_above=limit, ema=0.5)
        before = {name: tensor.clone() for name, tensor in made.tensors()["ema"].items()}
        assert made.step([part()]).applied is applied
        assert same(before, dict(made.tensors()["ema"])) is not applied


def test_a_threshold_that_freezes_training_stops_it() -> None:
    made = optimization(tiny(), skip_above=1e-6)
    with pytest.raises(TrainingStalledError, match=r"raise `train.skip_above`"):
        for i in range(60):
            made.step([part(2, step=i)])
    assert made.step_number == 50


def test_a_stalled_run_leaves_its_counts_in_the_log(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    with pytest.raises(TrainingStalledError):
        trainer(tiny(), run, steps=100, batch=2, skip_above=1e-6, checkpoint_every=Duration(n=1000)).fit()
    last = run.metrics()[-1]
    assert (last["event"], last["step"], last["skip_streak_steps"], last["skipped_steps"]) == ("stalled", 50, 50, 50)


def test_parts_of_a_batch_give_the_gradient_of_the_whole() -> None:
    whole, parts = tiny().double(), tiny().double()
    a, b = (
        optimization(whole, optimizer=Optimizer(kind="sgd", lr=0.1)),
        optimization(parts, optimizer=Optimizer(kind="sgd", lr=0.1)),
    )
    for i in range(3):
        one = a.step([part(8, 0, i, torch.float64)])
        two = b.step([part(2, 0, i, torch.float64), part(6, 2, i, torch.float64)])
        assert two.loss == pytest.approx(one.loss, rel=1e-6)  # logged in float32
        assert two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-6)
    assert furthest(weights(whole), weights(parts)) < 1e-12


def test_an_importance_weighted_step_moves_running_statistics_once() -> None:
    one, several = tiny(norm=True).double(), tiny(norm=True).double()
    whole = part(8, dtype=torch.float64)
    bound = ObjectiveSettings(unit="nats_per_dim", bound="iwae", samples=3)
    train = settings(warmup=Duration(n=0)).train
    assert train is not None
    Optimization(one, train, objective(), Clock(8, None)).step([whole])
    more = [SampleNoise(k, range(8)) for k in (1, 2)]
    result = Optimization(several, train, Objective(bound, Clock(8, None).steps), Clock(8, None)).step(
        [replace(whole, more=more)]
    )
    assert 1 <= result.terms["effective_sample_size"][0] <= 3
    assert result.loss == pytest.approx(result.terms["negative_importance_bound_nats_per_dim"][0], rel=1e-6)
    statistics = [n for n, _ in one.named_buffers() if "running" in n]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(several.get_buffer(name), one.get_buffer(name), rtol=1e-12, atol=0)


def test_accumulation_in_the_loop_equals_the_whole_batch() -> None:
    whole, parts = tiny().double(), tiny().double()
    sgd = Optimizer(kind="sgd", lr=0.1)
    trainer(whole, optimizer=sgd).fit()
    trainer(parts, optimizer=sgd, accumulate=4).fit()
    assert furthest(weights(whole), weights(parts)) < 1e-12


def test_activation_checkpointing_gives_bitwise_the_same_weights() -> None:
    plain, recomputed = tiny(dropout=0.3), tiny(dropout=0.3)
    trainer(plain).fit()
    trainer(recomputed, checkpointing="group").fit()
    assert same(weights(plain), weights(recomputed))


def test_activation_checkpointing_keeps_fewer_activations() -> None:
    def saved(**train: Any) -> int:
        made, storages = optimization(tiny(), **train), {}

        def pack(t: Tensor) -> Tensor:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            made._backward([part()])
        return sum(storages.values())

    # Inside a recomputed region the hooks of checkpointing, not ours, see what is saved.
    assert saved(checkpointing="group") < 0.5 * saved()


def test_a_budget_of_bytes_without_a_plan_is_refused() -> None:
    with pytest.raises(HvdslError, match="say which recipes are run again"):
        optimization(tiny(), checkpointing=Budget(bytes=2**20)).step([part()])


def test_bf16_keeps_stream_rate_and_likelihood_in_float32() -> None:
    model, exact = tiny(), tiny()
    made = optimization(model, precision="bf16")
    dtypes = []
    for module in (model.encoder, model.decoder, model.decoder.r4.layer[0], model.encoder.r8.block[0].bottleneck[0]):
        module.register_forward_hook(
            lambda m, args, out: dtypes.extend(t.dtype for t in (out if isinstance(out, tuple) else (out,)))
        )
    low: list[torch.dtype] = []
    model.encoder.r8.conv[0].register_forward_hook(lambda m, args, out: low.append(out.dtype))
    result, reference = made.step([part()]), optimization(exact).step([part()])
    assert set(dtypes) == {torch.float32}
    assert low == [torch.bfloat16]
    assert result.loss == pytest.approx(reference.loss, rel=2e-3)
    assert result.terms["rate_nats_per_dim"][0] == pytest.approx(reference.terms["rate_nats_per_dim"][0], rel=1e-2)


def test_evaluation_of_a_model_trained_in_bf16_is_in_float32() -> None:
    model = tiny()
    optimization(model, precision="bf16")
    low: list[torch.dtype] = []
    model.encoder.r8.conv[0].register_forward_hook(lambda m, args, out: low.append(out.dtype))
    model.eval()
    objective()(model, part(), 0)
    assert low == [torch.float32]


def test_fp16_skips_a_step_with_infinite_gradients_and_its_scale_survives_a_resume(tmp_path: Path) -> None:
    fp16 = {"precision": "fp16", "initial_scale": 2.0**18}
    model = tiny(norm=True)
    made = optimization(model, **fp16)
    before = weights(model)
    assert not made.step([part()]).applied
    assert same(weights(model), before)
    assert made.scaler.get_scale() == 2.0**17
    straight, resumed = tiny(norm=True), tiny(seed=9, norm=True)
    whole = trainer(straight, Run.create(tmp_path / "a", {}), **fp16)
    whole.fit()
    run = Run.create(tmp_path / "b", {})
    trainer(tiny(norm=True), run, steps=2, **fp16).fit()
    rest = trainer(resumed, Run.open(run.folder), **fp16)
    rest.resume()
    assert rest.optimization.scaler.get_scale() == 2.0**16
    rest.fit()
    assert 2 <= rest.optimization.guard.skipped < 6  # it recovers
    assert rest.optimization.scaler.state_dict() == whole.optimization.scaler.state_dict()
    assert same(weights(straight), weights(resumed))


def test_a_batch_of_nan_leaves_the_running_statistics_as_they_were() -> None:
    model = tiny(norm=True)
    made, good = optimization(model), part()
    made.step([good])
    before = weights(model)
    assert not made.step([ModelBatch(good.x * math.nan, good.target, good.noise)]).applied
    assert same(weights(model), before)


@pytest.mark.parametrize("extra", [{}, {"dropout": 0.2}, {"norm": True}])
def test_resuming_continues_bit_for_bit(extra: dict[str, Any], tmp_path: Path) -> None:
    straight, first, second = tiny(**extra), tiny(**extra), tiny(seed=9, **extra)
    a = trainer(straight, Run.create(tmp_path / "a", {}))
    assert a.fit() == TrainingResult(6)
    run = Run.create(tmp_path / "b", {})
    trainer(first, run, steps=4).fit()
    resumed = trainer(second, Run.open(run.folder))
    assert resumed.resume() == 4
    resumed.fit()
    assert same(weights(straight), weights(second))
    theirs, ours = resumed.optimization.tensors(), a.optimization.tensors()
    assert all(same(dict(theirs[name]), dict(ours[name])) for name in ("model", "optimizer", "ema"))


@pytest.mark.parametrize("log_every", [1, 3])
def test_a_resumed_log_equals_that_of_a_straight_run(log_every: int, tmp_path: Path) -> None:
    a, b = Run.create(tmp_path / "a", {}), Run.create(tmp_path / "b", {})
    trainer(tiny(), a, log_every=log_every).fit()
    trainer(tiny(), b, log_every=log_every, steps=5, checkpoint_every=Duration(n=4)).fit()
    shutil.rmtree(b.folder / "checkpoints" / "5")  # as if killed before the last one was complete
    second = trainer(tiny(seed=3), b, log_every=log_every)
    assert second.resume() == 4
    second.fit()
    logs = [[{k: v for k, v in r.items() if k not in OF_THE_MACHINE} for r in run.metrics()] for run in (a, b)]
    assert logs[0] == logs[1]
    assert [r["step"] for r in logs[0]] == list(range(log_every, 7, log_every))
    expected = {
        "rate_per_group_nats_per_image",
        "gradient_norm",
        "learning_rate",
        "skipped_steps",
        "objective",
        "epoch",
    }
    assert expected <= logs[0][0].keys()


def test_reading_ahead_changes_nothing() -> None:
    alone, threads = tiny(), tiny()
    Trainer(alone, settings(), Blobs(20)).fit()
    Trainer(threads, settings(), Blobs(20), workers=2).fit()
    assert same(weights(alone), weights(threads))


def test_resuming_with_other_threads_or_settings_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    run = Run.create(tmp_path / "a", {})
    trainer(tiny(), run, steps=2).fit()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        second = Trainer(tiny(), settings(batch=4), Blobs(20), run=run, console=Console(width=200))
        second.resume()
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert f"resuming with threads {threads + 1}, not {threads}" in said
    assert "`train.batch` changed from 8 to 4" in said


def test_an_interrupt_finishes_the_step_saves_and_leaves(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    made = trainer(tiny(), run, steps=1000, checkpoint_every=Duration(n=1000))
    real = made.launch

    def launch(batch: Any) -> None:
        if batch.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(batch)

    made.launch = launch  # type: ignore[method-assign]  # the signal must come in the middle of a step
    handler = signal.getsignal(signal.SIGTERM)
    assert made.fit() == TrainingResult(4, signal.SIGTERM)
    assert run.checkpoints().steps() == [4]
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("step", [4, 6])
def test_a_signal_during_validation_leaves_it_and_it_is_done_when_training_goes_on(step: int, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    done: list[int] = []

    def validate(at: int) -> dict[str, float]:
        if at == step and not done:
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(at)
        return {"bits_per_dim": 1.0}

    made = trainer(tiny(), run, log_every=1)
    made.periodic.append(Periodic("validation", step, validate))
    assert made.fit() == TrainingResult(step, signal.SIGTERM)
    assert (run.checkpoints().steps()[-1], done) == (step, [])
    again = trainer(tiny(seed=3), run, log_every=1)
    again.periodic.append(Periodic("validation", step, validate))
    done.append(0)
    again.resume()
    assert again.fit() == TrainingResult(6)
    assert done[:2] == [0, step]
    assert [r["step"] for r in run.metrics() if r["event"] == "validation"] == done[1:]


def test_a_signal_that_comes_when_training_has_ended_is_not_lost(tmp_path: Path) -> None:
    made = trainer(tiny(), Run.create(tmp_path / "a", {}))
    made._tell_of_the_best = lambda display: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[method-assign]
    assert made.fit() == TrainingResult(6, signal.SIGTERM)


def test_a_second_ctrl_c_leaves_at_once() -> None:
    made = trainer(tiny(), steps=1000)

    def launch(batch: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    made.launch = launch  # type: ignore[method-assign]  # as above
    with pytest.raises(KeyboardInterrupt):
        made.fit()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"batch": 21}, r"`train.batch` is 21 but there are only 20"),
        ({"batch": 8, "accumulate": 3}, r"does not divide .* take a multiple of 3"),
    ],
)
def test_a_batch_that_does_not_fit_says_what_would(train: dict[str, Any], message: str) -> None:
    with pytest.raises(HvdslError, match=message):
        trainer(tiny(), **train)


def test_a_spec_without_training_says_so() -> None:
    with pytest.raises(HvdslError, match="`tiny` has no `train` section"):
        Trainer(tiny(), settings().model_copy(update={"train": None}), Blobs(20))


def test_resuming_another_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    trainer(tiny(norm=True), run, steps=2).fit()
    model = tiny(seed=5)
    before = weights(model)
    with pytest.raises(HvdslError, match="belongs to another model"):
        trainer(model, run).resume()
    assert same(before, weights(model))


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    model: TinyHierarchy = tiny()
    run.checkpoints().save(3, {"model": model.state_dict(), "ema": model.state_dict()}, {})
    with pytest.raises(HvdslError, match="holds weights but no optimizer"):
        trainer(model, run).resume()


@pytest.mark.parametrize("kind", ["adam", "adamax", "sgd"])
@pytest.mark.parametrize("plain", [False, True])
def test_every_optimizers_memory_survives_a_resume(kind: Any, plain: bool, tmp_path: Path) -> None:
    adamax_without_correction = plain and kind == "adamax"
    optimizer = Optimizer(
        kind=kind, lr=0.01, momentum=0.0 if plain else 0.9, bias_correction=not adamax_without_correction
    )
    straight, second = tiny(), tiny(seed=9)
    trainer(straight, optimizer=optimizer).fit()
    run = Run.create(tmp_path / "a", {})
    trainer(tiny(), run, optimizer=optimizer, steps=3).fit()
    resumed = trainer(second, run, optimizer=optimizer)
    resumed.resume()
    resumed.fit()
    assert same(weights(straight), weights(second))


def test_another_optimizers_memory_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    trainer(tiny(), run, steps=2).fit()
    with pytest.raises(
        HvdslError, match=r"of another kind: it remembers .*`exp_avg_sq`.* this one `exp_avg`, `exp_inf`"
    ):
        trainer(tiny(), run, optimizer=Optimizer(kind="adamax", lr=0.1)).resume()


def damaged(run: Run, damage: Any) -> None:
    """The newest checkpoint again, with `damage` done to its parts and state, and a manifest that agrees."""
    checkpoint = run.checkpoints().latest()
    assert checkpoint is not None
    parts = {name: checkpoint.load(name) for name in ("model", "optimizer", "ema")}
    state = dict(checkpoint.state)
    damage(parts, state)
    run.checkpoints().save(checkpoint.step + 1, parts, state)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda parts, state: state.pop("guard"), "is not that of a training run"),
        (lambda parts, state: state.update(guard=[]), "is not that of a training run"),
        (lambda parts, state: state.update(guard={"skipped": {}}), "is not that of a training run"),
        (lambda parts, state: state.update(window={"steps": "many"}), "is not what was measured since a record"),
        (
            lambda parts, state: parts["optimizer"].update({"step/encoder.x": torch.ones(())}),
            "remembers `step/encoder.x`",
        ),
        (
            lambda parts, state: parts["optimizer"].update({"exp_avg/decoder.r8.affine.0.gain": torch.ones(9)}),
            r"`exp_avg/decoder.r8.affine.0.gain` is \[9\] there and \[8, 1, 1\] here",
        ),
        (lambda parts, state: parts["optimizer"].pop("step/decoder.r8.affine.0.gain"), "of another kind"),
        (lambda parts, state: parts["ema"].clear(), "which this model has"),
    ],
)
def test_a_hostile_checkpoint_is_refused_and_changes_nothing(damage: Any, message: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    trainer(tiny(), run, steps=2).fit()
    damaged(run, damage)
    made = trainer(tiny(seed=5), run)
    before = copied(made.optimization)
    with pytest.raises(CheckpointError, match=message):
        made.resume()
    assert all(same(before[name], dict(tensors)) for name, tensors in made.optimization.tensors().items())
    assert made.optimization.step_number == 0


def test_activation_checkpointing_moves_running_statistics_once() -> None:
    plain, recomputed = (BatchNormed() for _ in range(2))
    x = torch.randn(4, 3, 5, 5)
    assert checkpoint_groups(recomputed) == 1
    for model in (plain, recomputed):
        model.train()(x).square().sum().backward()
    for a, b in zip(plain.state_dict().values(), recomputed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for p, q in zip(plain.parameters(), recomputed.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert torch.equal(p.grad, q.grad)


def test_a_shared_recipe_that_is_called_with_other_parameters_is_not_recomputed() -> None:
    def gradients(checkpointed: bool) -> list[Tensor]:
        model = nn.Module()
        model.shared = ConvAndNorm()
        model.own = Own(model.shared, "bias")
        initialize(model, 0)
        if checkpointed:
            assert checkpoint_groups(model) == 0
        x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        (model.train().shared(x).sum() + model.own(x).square().sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    assert all(map(torch.equal, gradients(checkpointed=True), gradients(checkpointed=False)))


class ConvAndNorm(Recipe):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = Conv2d(3, 4, (3, 3)), BatchNormSiLU(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class BatchNormed(nn.Module):
    """One section with one row with one recipe that holds a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.r5 = nn.Module()
        self.decoder.r5.cell = nn.ModuleList([ConvAndNorm()])
        initialize(self, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder.r5.cell[0](x)  # type: ignore[union-attr, index, operator, no-any-return]


def test_a_run_that_names_no_noise_scheme_goes_on_with_the_first(tmp_path: Path) -> None:
    straight, first, second = tiny(), tiny(), tiny(seed=9)
    set_noise_scheme(straight, 1)
    set_noise_scheme(first, 1)
    trainer(straight).fit()
    run = Run.create(tmp_path / "a", {})
    trainer(first, run, steps=4).fit()
    manifest = run.folder / "checkpoints" / "4" / "manifest.json"
    kept = json.loads(manifest.read_text())
    del kept["state"]["noise_scheme"], kept["sha256"]
    kept["format"] = 1
    manifest.write_text(json.dumps(kept))
    resumed = trainer(second, run)
    assert resumed.resume() == 4
    resumed.fit()
    assert same(weights(straight), weights(second))
    newest = tiny()
    trainer(newest).fit()
    assert not same(weights(straight), weights(newest))


def test_a_checkpoint_of_an_unknown_noise_scheme_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    trainer(tiny(), run, steps=2).fit()
    checkpoint = run.checkpoints().latest()
    assert checkpoint is not None
    assert checkpoint.state["noise_scheme"] == 2
    damaged(run, lambda parts, state: state.update(noise_scheme=3))
    with pytest.raises(CheckpointError, match=r"names the noise scheme 3; known are 1, 2"):
        trainer(tiny(), run).resume()


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(
        HvdslError, match=r"`precision = tf32` is an arithmetic of NVIDIA's accelerators, and the model is on the cpu"
    ):
        optimization(tiny(), precision="tf32")
