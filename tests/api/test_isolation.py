"""No call changes the process: random state, threads, types, filters, handlers, output."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import hvdsl

from .conftest import Loaded
from .models import one_file
from .test_trained import pixels_for

Call = Callable[[], object]


def state() -> list[object]:
    """All of a process that a library must leave alone."""
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        [str(part) for part in np.random.get_state()],
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        list(warnings.filters),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        dict(os.environ),
        Path.cwd(),
    ]


@pytest.mark.parametrize("name", ["compile", "build", "open_data", "train", "load", "methods", "codes"])
def test_no_call_changes_the_process(
    name: str, loaded: Loaded, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, coded = loaded("nvae"), loaded("codes")
    images = pixels_for(trained)

    def train() -> None:
        small: dict[str, bool | int | float | str] = {"width": 4, "zdim": 1}
        hvdsl.train("vdvae_digits", steps=2, batch=8, out=tmp_path / "run", overrides=small, device="cpu", threads=1)
        hvdsl.train(resume=True, steps=3, out=tmp_path / "run", device="cpu", threads=1)

    def methods() -> None:
        trained.elbo(images)
        trained.decode(trained.latents(images))
        trained.decode(trained.encode(images))
        trained.reconstruct(images, keep=1)
        trained.sample(2, recalibrate=1)
        trained.evaluate(images, samples=2)

    calls: dict[str, Call] = {
        "compile": lambda: hvdsl.compile("vdvae_digits").standalone(),
        "build": lambda: hvdsl.build("nvae_digits", seed=3, overrides={"c": 4}),
        "open_data": lambda: hvdsl.open_data("vdvae_digits").train.batch([0, 1]),
        "train": train,
        "load": lambda: hvdsl.load(digits_run, device="cpu"),
        "methods": methods,
        "codes": lambda: coded.decode(coded.encode(pixels_for(coded))),
    }
    calls[name]()  # whatever is imported lazily is there from now on
    for path in tmp_path.iterdir():
        path.rename(tmp_path.with_name(f"{tmp_path.name}-first"))
    capsys.readouterr()
    torch.manual_seed(11)
    before = state()
    calls[name]()
    assert state() == before
    assert capsys.readouterr() == ("", "")


def test_a_failure_changes_nothing_either(loaded: Loaded) -> None:
    trained, before = loaded("vdvae"), state()
    with pytest.raises(hvdsl.Error):
        trained.elbo(torch.zeros(2, 1, 8, 8))
    with pytest.raises(hvdsl.Error):
        hvdsl.train("vdvae_digits", overrides={"train.batch": 100_000}, steps=1, device="cpu", threads=1)
    assert state() == before


def test_threads_are_those_of_the_call_while_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvdsl.runtime.training.trainer import Trainer, TrainingResult

    seen: list[int] = []

    def fit(self: Trainer) -> TrainingResult:
        seen.append(torch.get_num_threads())
        return TrainingResult(0)

    monkeypatch.setattr(Trainer, "fit", fit)
    before = torch.get_num_threads()
    hvdsl.train("vdvae_digits", out=tmp_path / "run", overrides={"width": 4}, device="cpu", threads=before + 1)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_model_is_the_same_in_another_process(loaded: Loaded, tmp_path: Path) -> None:
    file = one_file("vdvae", tmp_path)
    script = "import sys, hvdsl; print(hvdsl.load(sys.argv[1], device='cpu').sample(2).flatten().tolist())"
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded("vdvae").sample(2).flatten().tolist())
