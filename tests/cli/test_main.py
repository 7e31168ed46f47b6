"""What every command shares: help, exit codes, failures in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvdsl.cli import main as cli

from .conftest import Hvdsl


@pytest.mark.parametrize("command", [name for name, _, _ in cli.COMMANDS])
def test_every_command_has_help(hvdsl: Hvdsl, command: str) -> None:
    result = hvdsl(command, "--help")
    assert result.code == 0
    assert result.out.startswith(f"usage: hvdsl {command}")


@pytest.mark.parametrize("arguments", [[], ["no_such_command"], ["check"], ["check", "x.hv", "--no-such-option"]])
def test_wrong_usage_exits_with_2(hvdsl: Hvdsl, arguments: list[str]) -> None:
    assert hvdsl(*arguments).code == 2


def test_a_bug_of_ours_says_so_without_a_traceback(hvdsl: Hvdsl, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.delenv("HVDSL_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "_dispatch", broken)
    result = hvdsl("check", "x.hv")
    assert result.code == 70
    assert "bug in hvdsl" in result.err
    assert "Traceback" not in result.err


def test_a_bug_shows_its_traceback_on_request(hvdsl: Hvdsl, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setenv("HVDSL_TRACEBACK", "1")
    monkeypatch.setattr(cli, "_dispatch", broken)
    with pytest.raises(ZeroDivisionError):
        hvdsl("check", "x.hv")


def test_an_interrupt_exits_with_130(hvdsl: Hvdsl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert hvdsl("check", "x.hv").code == 130


def test_a_file_that_cannot_be_written_is_one_sentence(hvdsl: Hvdsl, tiny: Path) -> None:
    result = hvdsl("compile", tiny, "-o", tiny / "model.py")
    assert result.code == 1
    assert len(result.err.strip().splitlines()) == 1


def test_a_reader_that_goes_away_is_no_failure() -> None:
    command = f"{sys.executable} -m hvdsl explain | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_closed_streams_are_no_failure(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `hvdsl info SPEC >&-`, where Python has no stream to give."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli.main(["info", str(tiny)]) == 0
    assert cli.main(["check", "nothing.hv"]) == 1
    assert cli.main(["fmt", "-", "--check"]) == 0
    for name in ("stdin", "stdout", "stderr"):
        getattr(sys, name).close()
