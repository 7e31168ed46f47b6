"""The C library's allocator is told to keep what is freed, in processes of the command line that compute."""

import ctypes
import sys
from typing import Any

import pytest

from hvdsl.cli.main import main
from hvdsl.runtime.ground import heap


@pytest.fixture
def options(monkeypatch: Any) -> Any:
    """What an allocator that takes everything was told: nothing is told to that of the tests."""
    options: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            options.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(sys, "platform", "linux")
    for name in heap._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return options


def test_nothing_is_trimmed_and_blocks_of_their_own_are_large_ones(options: Any) -> None:
    assert heap.keep_freed_memory()
    assert options == [(-3, 32 * 2**20), (-1, -1)]


def test_what_the_environment_says_stays(options: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not heap.keep_freed_memory()
    assert options == []


def test_other_systems_and_allocators_are_left_alone(options: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not heap.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not heap.keep_freed_memory()
    assert options == []


@pytest.mark.parametrize(
    ("command", "computes"), [("train", True), ("sample", True), ("doctor", False), ("lsp", False)]
)
def test_commands_that_compute_keep_it(command: str, computes: bool, options: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["hvdsl", command, "--help"])
    assert main() == 0
    assert bool(options) == computes
    options.clear()
    assert main([command, "--help"]) == 0  # called by a program, whose process it is
    assert options == []
