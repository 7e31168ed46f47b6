"""What a run would take, before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Hvdsl


def test_what_a_process_needs_is_said_and_nothing_is_made(
    hvdsl: Hvdsl, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hvdsl("train", tiny, "--dry-run", "--world-size", "4", "--device-memory", "1GiB", "--throughput", "10")
    assert result.code == 0
    assert "each of 4 processes: " in result.out
    assert "4 images at once" in result.out
    assert "3 steps of 16 images at 10 images/s" in result.out
    assert result.out.endswith("fits into 1GiB\n")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.hv"]


def test_a_throughput_is_told_of_whatever_ends_the_run(hvdsl: Hvdsl, tiny: Path) -> None:
    for settings, line in (
        (("train.steps=none", "train.epochs=9"), "9 epochs at 10 images/s: 25.0 hours for every 100,000 images"),
        (("train.steps=none",), "the spec has no end: 2,250 steps an hour at 10 images/s"),
    ):
        result = hvdsl("train", tiny, "--dry-run", "--throughput", "10", *(f"--set={setting}" for setting in settings))
        assert line in result.out


def test_what_cannot_fit_is_refused_with_what_would(hvdsl: Hvdsl, tiny: Path) -> None:
    result = hvdsl("train", tiny, "--dry-run", "--device-memory", "150kB")
    assert result.code == 1
    assert "does not fit: a process needs " in result.err
    assert "this would fit: --set train.accumulate=" in result.err
    again = result.err.partition("this would fit: ")[2].split(",")[0].split()
    assert hvdsl("train", tiny, "--dry-run", "--device-memory", "150kB", *again).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--world-size", "2"],
        ["--dry-run", "--device-memory", "much"],
        ["--dry-run", "--resume", "--out", "x"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str], hvdsl: Hvdsl, tiny: Path) -> None:
    assert hvdsl("train", tiny, *arguments).code == 2
