"""One update: what it reports, what a skipped one leaves, parts of a batch, and low precision."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Budget, ObjectiveSettings, Optimizer
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.guard import TrainingStalledError
from hvdsl.runtime.training.step.optimization import Optimization
from tests.runtime.training.steps import (
    copied,
    furthest,
    objective,
    optimization,
    part,
    same,
    trainer,
    weights,
)
from tests.runtime.training.tiny_hierarchy import settings, tiny


def test_training_lowers_the_objective() -> None:
    updates = optimization(tiny(), optimizer=Optimizer(kind="adam", lr=1e-2))
    losses = [updates.step([part(16, step=i)]).loss for i in range(30)]
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
    updates = optimization(model, warmup=Duration(n=4), skip_above=20.0)
    for i in range(2):
        updates.step([part(step=i)])
    before = copied(updates)
    bad = part()
    x = bad.x * 1e6 if broken == "large" else torch.full_like(bad.x, math.nan)
    result = updates.step([ModelBatch(x, bad.target, bad.noise)])
    assert not result.applied
    assert all(same(before[name], dict(tensors)) for name, tensors in updates.tensors().items())
    assert updates.guard.skipped == 1
    assert updates.step([part()]).learning_rate == pytest.approx(3e-3 * 3 / 4)


def test_the_limit_is_compared_with_the_norm_before_clipping() -> None:
    norm = optimization(tiny()).step([part()]).gradient_norm
    result = optimization(tiny(), clip=norm / 10, skip_above=norm / 2).step([part()])
    assert not result.applied
    assert result.gradient_norm == norm


def test_the_limit_is_the_one_that_is_set_and_the_averages_follow_applied_steps_alone() -> None:
    norm = optimization(tiny()).step([part()]).gradient_norm
    for limit, applied in ((1.001 * norm, True), (0.999 * norm, False)):
        updates = optimization(tiny(), skip_above=limit, ema=0.5)
        before = {name: tensor.clone() for name, tensor in updates.tensors()["ema"].items()}
        assert updates.step([part()]).applied is applied
        assert same(before, dict(updates.tensors()["ema"])) is not applied


def test_a_threshold_that_freezes_training_stops_it() -> None:
    updates = optimization(tiny(), skip_above=1e-6)
    with pytest.raises(TrainingStalledError, match=r"raise `train.skip_above`"):
        for i in range(60):
            updates.step([part(2, step=i)])
    assert updates.step_number == 50


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


def test_a_budget_of_bytes_without_a_plan_is_refused() -> None:
    with pytest.raises(HvdslError, match="say which recipes are run again"):
        optimization(tiny(), checkpointing=Budget(bytes=2**20)).step([part()])


def test_bf16_keeps_stream_rate_and_likelihood_in_float32() -> None:
    model, exact = tiny(), tiny()
    updates = optimization(model, precision="bf16")
    dtypes = []
    for module in (model.encoder, model.decoder, model.decoder.r4.layer[0], model.encoder.r8.block[0].bottleneck[0]):
        module.register_forward_hook(
            lambda m, args, out: dtypes.extend(t.dtype for t in (out if isinstance(out, tuple) else (out,)))
        )
    low: list[torch.dtype] = []
    model.encoder.r8.conv[0].register_forward_hook(lambda m, args, out: low.append(out.dtype))
    result, reference = updates.step([part()]), optimization(exact).step([part()])
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
    updates = optimization(model, **fp16)
    before = weights(model)
    assert not updates.step([part()]).applied
    assert same(weights(model), before)
    assert updates.scaler.get_scale() == 2.0**17
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
    updates, good = optimization(model), part()
    updates.step([good])
    before = weights(model)
    assert not updates.step([ModelBatch(good.x * math.nan, good.target, good.noise)]).applied
    assert same(weights(model), before)


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(
        HvdslError, match=r"`precision = tf32` is an arithmetic of NVIDIA's accelerators, and the model is on the cpu"
    ):
        optimization(tiny(), precision="tf32")
