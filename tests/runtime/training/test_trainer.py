"""The training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer
from hvdsl.errors import HvdslError
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.guard import TrainingStalledError
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.steps import (
    furthest,
    same,
    trainer,
    weights,
)
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def test_a_stalled_run_leaves_its_counts_in_the_log(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    with pytest.raises(TrainingStalledError):
        trainer(tiny(), run, steps=100, batch=2, skip_above=1e-6, checkpoint_every=Duration(n=1000)).fit()
    last = run.metrics()[-1]
    assert (last["event"], last["step"], last["skip_streak_steps"], last["skipped_steps"]) == ("stalled", 50, 50, 50)


def test_accumulation_in_the_loop_equals_the_whole_batch() -> None:
    whole, parts = tiny().double(), tiny().double()
    sgd = Optimizer(kind="sgd", lr=0.1)
    trainer(whole, optimizer=sgd).fit()
    trainer(parts, optimizer=sgd, accumulate=4).fit()
    assert furthest(weights(whole), weights(parts)) < 1e-12


def test_reading_ahead_changes_nothing() -> None:
    alone, threads = tiny(), tiny()
    Trainer(alone, settings(), Blobs(20)).fit()
    Trainer(threads, settings(), Blobs(20), workers=2).fit()
    assert same(weights(alone), weights(threads))


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
