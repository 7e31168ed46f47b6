"""Going on from a checkpoint: bit for bit, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.metric_names import IMAGES_PER_SECOND, PEAK_MEMORY_BYTES, SECONDS_PER_STEP
from hvdsl.runtime.latents.noise import set_noise_scheme
from hvdsl.runtime.training.folder.checkpoint import CheckpointError
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.trainer import Trainer, TrainingResult
from tests.runtime.training.steps import (
    copied,
    same,
    trainer,
    weights,
)
from tests.runtime.training.tiny_hierarchy import Blobs, TinyHierarchy, settings, tiny

OF_THE_MACHINE = {
    IMAGES_PER_SECOND,
    SECONDS_PER_STEP,
    PEAK_MEMORY_BYTES,
}  # differ from run to run


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
    training = trainer(tiny(seed=5), run)
    before = copied(training.optimization)
    with pytest.raises(CheckpointError, match=message):
        training.resume()
    assert all(same(before[name], dict(tensors)) for name, tensors in training.optimization.tensors().items())
    assert training.optimization.step_number == 0


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
