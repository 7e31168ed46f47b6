"""When a run is saved, what of it is kept, and what is said of one that goes wrong."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Best, Quantile
from hvdsl.runtime.training.folder.checkpoint import CheckpointError, CheckpointStore
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.guard import SkipGuard, TrainingStalledError
from hvdsl.runtime.training.trainer import Periodic, Trainer, TrainingResult
from hvdsl.runtime.training.window import Collapse
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def trainer(run: Run, model: nn.Module | None = None, **train: Any) -> Trainer:
    return Trainer(model or tiny(), settings(**train), Blobs(20), run=run)


def validated(run: Run, bounds: dict[int, float], **train: Any) -> Trainer:
    """A trainer whose validation at a step measures what `bounds` says."""
    training = trainer(run, evaluate_every=Duration(n=1), **train)
    training.periodic.append(Periodic("validation", 1, lambda step: {"bits_per_dim": bounds[step]}))
    return training


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {})


def test_what_is_measured_at_the_step_of_a_checkpoint_is_in_it(run: Run) -> None:
    validated(run, {2: 4.0, 4: 3.0, **dict.fromkeys((1, 3, 5), 9.0), 6: 2.0}).fit()
    measured = run.checkpoints().open(6).state["measured"]
    assert measured["validation"] == {"bits_per_dim": 2.0}
    last = [record for record in run.metrics() if record["step"] == 6 and record["event"] == "train"]
    assert [measured["train"]] == [{k: v for k, v in record.items() if k not in ("event", "step")} for record in last]


def test_a_finished_run_that_is_resumed_adds_nothing(run: Run) -> None:
    bounds = dict.fromkeys(range(1, 7), 1.0)
    validated(run, bounds).fit()
    before = (run.folder / "metrics.jsonl").read_bytes()
    again = validated(run, {})  # would raise where it were validated again
    again.resume()
    assert again.fit() == TrainingResult(6)
    assert (run.folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("step", [4, 6])
def test_a_kill_between_saving_and_validating_loses_nothing(step: int, run: Run) -> None:
    killed = validated(run, dict.fromkeys(range(1, step), 1.0))
    with pytest.raises(KeyError):
        killed.fit()
    assert run.checkpoints().steps()[-1] == step
    second = validated(run, dict.fromkeys(range(1, 7), 1.0))
    assert second.resume() == step
    second.fit()
    validations = [record["step"] for record in run.metrics() if record["event"] == "validation"]
    assert validations == [1, 2, 3, 4, 5, 6]


def test_lines_that_were_lost_with_the_machine_come_back_from_the_checkpoint(run: Run) -> None:
    validated(run, dict.fromkeys(range(1, 7), 1.0), steps=4).fit()
    lines = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "metrics.jsonl").write_text("".join(line for line in lines if '"step": 4' not in line))
    trainer(run).resume()
    assert [record["event"] for record in run.metrics() if record["step"] == 4] == ["train", "validation"]


def test_the_best_checkpoint_is_kept_beside_the_newest(run: Run) -> None:
    bounds = {1: 5.0, 2: 4.0, 3: 2.0, 4: 6.0, 5: 6.0, 6: 6.0}
    validated(run, bounds, keep=Best(newest=1)).fit()
    assert run.checkpoints().steps() == [3, 6]  # 3 was saved because it was the best


def test_training_ends_when_patience_does_and_stays_ended(run: Run) -> None:
    bounds = {1: 5.0, 2: 4.0, 3: 4.5, 4: 4.5, 5: 3.0, 6: 1.0}
    assert validated(run, bounds, patience=2).fit() == TrainingResult(4)
    again = validated(run, bounds, patience=2)
    again.resume()
    assert again.fit() == TrainingResult(4)
    patient = validated(run, bounds, patience=3)
    patient.resume()
    assert patient.fit() == TrainingResult(6)


def test_a_checkpoint_that_cannot_be_written_beside_training_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save = CheckpointStore.save

    def full(self: CheckpointStore, step: int, *rest: Any) -> Path:
        if step == 4:
            raise CheckpointError("no space for the checkpoint of step 4")
        return save(self, step, *rest)

    monkeypatch.setattr(CheckpointStore, "save", full)
    with pytest.raises(CheckpointError, match="no space for the checkpoint of step 4"):
        trainer(run, steps=20).fit()
    assert run.checkpoints().steps() == [2]


@pytest.fixture
def broken_name() -> str:
    return next(name for name, _ in tiny().named_parameters() if "decoder" in name and name.endswith("weight"))


def test_a_streak_of_nan_pushes_no_good_checkpoint_out_and_the_stop_names_it(run: Run, broken_name: str) -> None:
    training = trainer(run, steps=200, keep=1)
    launch = training.launch

    def broken(batch: Any) -> None:
        if batch.step == 6:
            with torch.no_grad():
                dict(training.model.named_parameters())[broken_name].fill_(math.nan)
        launch(batch)

    training.launch = broken  # type: ignore[method-assign]  # weights must break within training
    with pytest.raises(TrainingStalledError) as failure:
        training.fit()
    assert run.checkpoints().steps() == [4, 6]  # 6 was taken before anything was known of its weights
    message = str(failure.value)
    assert f"the parameter `{broken_name}` is not finite first (report: " in message
    assert f"step 4: `hvdsl train --resume --checkpoint 4 --out {run.folder}` goes on from it" in message
    report = json.loads((run.folder / "stalled-56.json").read_text())
    assert report["images"] and all(name.startswith("blob ") for name in report["images"])
    assert report["parameters"][0].keys() == {"name", "shape", "largest", "not_finite"}
    assert [p["name"] for p in report["parameters"] if p["not_finite"]] == [broken_name]
    again = trainer(run, steps=8)
    assert again.resume(4) == 4
    assert again.fit() == TrainingResult(8)


def test_a_signal_within_a_streak_of_nan_saves_nothing_and_says_so(run: Run, broken_name: str) -> None:
    training = trainer(run, steps=200)
    launch = training.launch

    def broken(batch: Any) -> None:
        if batch.step == 3:
            with torch.no_grad():
                dict(training.model.named_parameters())[broken_name].fill_(math.nan)
        if batch.step == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        launch(batch)

    training.launch = broken  # type: ignore[method-assign]  # as above
    assert training.fit() == TrainingResult(10, signal.SIGTERM, saved=2)


def test_divergence_at_initialisation_is_told_as_that(run: Run) -> None:
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e12)
    with pytest.raises(
        TrainingStalledError, match=r"diverges at initialisation: no update .* group [\w.]+ has the largest"
    ):
        trainer(run, model, steps=200).fit()


def test_a_threshold_that_follows_recent_norms() -> None:
    guard = SkipGuard(Quantile(q=0.5, times=3.0, over=20))
    loss = torch.tensor(1.0)
    assert all(guard.allows(loss, torch.tensor(float(norm))) for norm in [1e6, *range(1, 20)])  # too few to judge by
    assert guard.allows(loss, torch.tensor(31.0))  # three times the median of 1 … 19 and 1e6, which is 10.5
    assert not guard.allows(loss, torch.tensor(33.0))
    assert not guard.allows(loss, torch.tensor(math.nan))
    second = SkipGuard(Quantile(q=0.5, times=3.0, over=20))
    second.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    for norm in (30.0, 36.0, 40.0):
        assert bool(guard.allows(loss, torch.tensor(norm))) == bool(second.allows(loss, torch.tensor(norm)))


def test_a_run_that_skips_by_recent_norms_resumes_bit_for_bit(tmp_path: Path) -> None:
    rule = Quantile(q=0.5, times=1.0, over=20)
    whole, first, second = tiny(), tiny(), tiny(seed=9)
    straight = trainer(Run.create(tmp_path / "a", {}), whole, steps=40, skip_above=rule)
    straight.fit()
    assert straight.optimization.guard.skipped > 0
    run = Run.create(tmp_path / "b", {})
    trainer(run, first, steps=26, skip_above=rule).fit()
    resumed = trainer(run, second, steps=40, skip_above=rule)
    resumed.resume()
    resumed.fit()
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_loss_scale_that_collapses_is_an_error() -> None:
    training = Trainer(tiny(), settings(precision="fp16", initial_scale=2.0**-12), Blobs(20))
    with pytest.raises(TrainingStalledError, match=r"loss scale of fp16 fell to .*: train in `bf16` or `fp32`"):
        training.optimization.check_scale()


@pytest.mark.parametrize(("every", "steps"), [(1, 25), (100, 1000)])
def test_a_continuous_group_that_stays_silent_is_told_once(every: int, steps: int) -> None:
    collapse = Collapse(total=50 if every == 1 else None)
    reports = {n * every: collapse.rates(["z_1", "z_2"], [0.001, 3.0], n * every) for n in range(1, 40)}
    lines = {step: line for step, [line] in ((step, lines) for step, lines in reports.items() if lines)}
    assert list(lines) == [steps]
    assert lines[steps].startswith(
        f"group z_1 has collapsed: below 0.01 nats per image in every record of the last {steps:,} steps"
    )
