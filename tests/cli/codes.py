"""What tests of models of codes do with the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .conftest import Hvdsl

CPU = ("--device", "cpu", "--threads", "1")


def sampled(hvdsl: Hvdsl, run: Path, to: Path, *options: str | Path) -> np.ndarray:
    """Sample four images; the page of them."""
    result = hvdsl("sample", run, "-n", "4", "-o", to, *options, *CPU)
    assert result.code == 0, result.err
    with Image.open(to) as picture:
        return np.asarray(picture)


def refusal(hvdsl: Hvdsl, *arguments: str | Path, code: int = 1, machine: bool = True) -> str:
    """Run what must fail with this exit code, in one sentence; that sentence."""
    result = hvdsl(*arguments, *(CPU if machine else ()))
    assert result.code == code, result.err
    [line] = [line for line in result.err.splitlines() if line.startswith("hvdsl: ")]
    return line
