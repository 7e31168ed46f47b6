"""`info --memory`, and training within a budget of bytes."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Hvdsl


def test_the_memory_of_a_step_is_told_by_purpose_and_is_that_of_the_dry_run(hvdsl: Hvdsl, tiny: Path) -> None:
    told = hvdsl("info", tiny, "--memory", "--batch", "32")
    assert told.out.startswith("a training step of 32 images: ")
    assert "  moments of adam " in told.out
    values = json.loads(hvdsl("info", tiny, "--memory", "--batch", "32", "--json").out)
    assert values["bytes"] == sum(values["parts"].values())
    low = json.loads(hvdsl("info", tiny, "--memory", "--batch", "32", "--precision", "bf16", "--json").out)
    assert low["bytes"] < values["bytes"]
    dry = hvdsl("train", tiny, "--dry-run", "--set", "train.batch=32").out
    assert told.out.splitlines()[1] in dry


def test_batch_and_precision_are_of_memory(hvdsl: Hvdsl, tiny: Path) -> None:
    assert hvdsl("info", tiny, "--batch", "32").code == 2


def test_training_within_a_budget(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    told = hvdsl("train", tiny, "--out", tmp_path / "run", "--set", "train.checkpointing=budget(450KiB)")
    assert told.code == 0, told.err
    assert "checkpointing: " in told.out
    assert " of 3 recipes are run again, activations take " in told.out
    refused = hvdsl("train", tiny, "--out", tmp_path / "other", "--set", "train.checkpointing=budget(1KiB)")
    assert refused.code == 1
    assert "`checkpointing = budget(1 KiB)`: with every recipe run again" in refused.err
    assert not (tmp_path / "other").exists()
