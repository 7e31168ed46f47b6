"""Run the command line as a user does, in this process where that is enough."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import torch

from hvdsl.cli.main import main

TINY = """hv 1
model tiny
title "Tiny"
let width = 8
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
group layer {
  q = concat(x, skip) -> conv(1x1, 8)
  p = conv(1x1, 8)
  z ~ normal(p) posterior normal(q)
  x + (z -> conv(1x1, width))
}
encoder {
  8: conv(3x3, width) -> tap -> avg_pool(2)
  4: conv(3x3, width) -> tap
}
decoder {
  4: learned(zeros, width) -> layer * 2
  8: nearest(2) -> layer -> conv(1x1, logits)
}
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 3, batch = 16, optimizer = adam(lr = 1e-3), log_every = 1, ema = 0.5 }
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Hvdsl(Protocol):
    def __call__(self, *arguments: str | Path) -> Result: ...


@pytest.fixture
def hvdsl(capsys: pytest.CaptureFixture[str]) -> Hvdsl:
    """Run one command; give its exit code and what it printed."""

    def run(*arguments: str | Path) -> Result:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small spec that trains on the shipped digits."""
    path = tmp_path / "tiny.hv"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a narrow model on the shipped digits; it is only read."""
    import hvdsl

    out = tmp_path_factory.mktemp("runs") / "digits"
    overrides: dict[str, bool | int | float | str] = {
        "width": 8, "zdim": 2, "train.evaluate_every": 1000, "train.ema": 0.8, "train.warmup": 10,
        "train.optimizer.lr": 1e-2,
    }  # fmt: skip
    hvdsl.train("vdvae_digits", overrides=overrides, steps=80, batch=32, seed=1, out=out, device="cpu", threads=1)
    return out


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six of the shipped digits as PNGs, named a … f."""
    import hvdsl
    from hvdsl.runtime.inference.image_files import ImageFolder

    spec = hvdsl.compile("vdvae_digits")
    pixels = hvdsl.open_data(spec).test.batch(range(6))
    folder = tmp_path_factory.mktemp("digits")
    ImageFolder(folder, spec.model.settings.data, list("abcdef")).write(range(6), torch.from_numpy(pixels))
    return folder
