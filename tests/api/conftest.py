"""A model of each kind as one file, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

import hvdsl

from .models import one_file

Loaded = Callable[[str], hvdsl.Trained]


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Open a model of `models.MODELS`."""
    folder = tmp_path_factory.mktemp("models")

    @lru_cache
    def load(name: str) -> hvdsl.Trained:
        return hvdsl.load(one_file(name, folder), device="cpu")

    return load


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps on the shipped digits, validated at every second."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    overrides: dict[str, bool | int | float | str] = {
        "width": 4, "zdim": 2, "train.evaluate_every": 2, "train.checkpoint_every": 2, "train.keep": 3,
    }  # fmt: skip
    hvdsl.train("vdvae_digits", overrides=overrides, steps=4, batch=16, seed=1, out=out, device="cpu", threads=1)
    return out
