"""Signals end training after the step, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hvdsl.compiler.setting_words import Duration
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.trainer import Periodic, TrainingResult
from tests.runtime.training.steps import (
    trainer,
)
from tests.runtime.training.tiny_hierarchy import tiny


def test_an_interrupt_finishes_the_step_saves_and_leaves(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    training = trainer(tiny(), run, steps=1000, checkpoint_every=Duration(n=1000))
    real = training.launch

    def launch(batch: Any) -> None:
        if batch.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(batch)

    training.launch = launch  # type: ignore[method-assign]  # the signal must come in the middle of a step
    handler = signal.getsignal(signal.SIGTERM)
    assert training.fit() == TrainingResult(4, signal.SIGTERM)
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

    training = trainer(tiny(), run, log_every=1)
    training.periodic.append(Periodic("validation", step, validate))
    assert training.fit() == TrainingResult(step, signal.SIGTERM)
    assert (run.checkpoints().steps()[-1], done) == (step, [])
    again = trainer(tiny(seed=3), run, log_every=1)
    again.periodic.append(Periodic("validation", step, validate))
    done.append(0)
    again.resume()
    assert again.fit() == TrainingResult(6)
    assert done[:2] == [0, step]
    assert [r["step"] for r in run.metrics() if r["event"] == "validation"] == done[1:]


def test_a_signal_that_comes_when_training_has_ended_is_not_lost(tmp_path: Path) -> None:
    training = trainer(tiny(), Run.create(tmp_path / "a", {}))
    training._tell_of_the_best = lambda display: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[method-assign]
    assert training.fit() == TrainingResult(6, signal.SIGTERM)


def test_a_second_ctrl_c_leaves_at_once() -> None:
    training = trainer(tiny(), steps=1000)

    def launch(batch: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    training.launch = launch  # type: ignore[method-assign]  # as above
    with pytest.raises(KeyboardInterrupt):
        training.fit()
