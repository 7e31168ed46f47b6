"""Runs that version 0.1 trained evaluate, sample and resume: to the numbers that 0.1 recorded.

`version_0_1/*.zip` are whole run folders (a narrowed `vdvae_digits` of four steps; two levels of codes with their
priors, four steps each), without events and pictures. What 0.1 made of them stands beside them: its evaluation, its
samples, and the measurements of two more steps.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hvdsl import load, open_data

from .codes import CPU
from .conftest import Hvdsl

RECORDED = Path(__file__).with_name("version_0_1")
NUMBERS = json.loads((RECORDED / "recorded.json").read_text())


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The run folder named by the test's `name`."""
    name = request.getfixturevalue("name")
    with zipfile.ZipFile(RECORDED / f"{name}.zip") as archive:
        archive.extractall(tmp_path / name)
    return tmp_path / name


def numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Every number in nested JSON, by its path."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        items = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(items, dict):
            flat |= numbers({str(k): v for k, v in items.items()}, f"{prefix}{key}.")
        elif isinstance(items, int | float):
            flat[f"{prefix}{key}"] = items
    return flat


@pytest.mark.parametrize("name", ["vdvae_digits", "two_stage"])
def test_a_run_of_0_1_evaluates(name: str, run: Path, hvdsl: Hvdsl) -> None:
    evaluation = numbers(json.loads(hvdsl("eval", run, "--json", *CPU).out))
    expected = numbers(NUMBERS[name]["evaluation"])
    assert {key: evaluation[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", ["vdvae_digits", "two_stage"])
def test_a_run_of_0_1_samples(name: str, run: Path, hvdsl: Hvdsl, tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    assert hvdsl("sample", run, "-n", "4", "-o", page, *CPU).code == 0
    with Image.open(page) as drawn, Image.open(RECORDED / f"{name}_samples.png") as expected:
        assert drawn.size == expected.size
        difference = np.abs(np.asarray(drawn, np.int32) - np.asarray(expected, np.int32))
    assert (difference > 2).mean() < 0.02  # a draw may fall on the other side of a rounding


@pytest.mark.parametrize("name", ["vdvae_digits"])
def test_a_run_of_0_1_goes_on(name: str, run: Path, hvdsl: Hvdsl) -> None:
    assert hvdsl("train", "--resume", "--out", run, "--steps", "6", *CPU).code == 0
    assert measured(run, "bits_per_dim") == pytest.approx(NUMBERS[name]["resumed_bits_per_dim"], rel=1e-5)


@pytest.mark.parametrize("name", ["two_stage"])
def test_a_prior_of_0_1_goes_on(name: str, run: Path, hvdsl: Hvdsl) -> None:
    assert hvdsl("train", "--resume", "--out", run, "--stage", "z_top", "--steps", "6", *CPU).code == 0
    assert measured(run / "priors/z_top", "nats_per_code") == pytest.approx(
        NUMBERS[name]["resumed_nats_per_code"], rel=1e-5
    )


@pytest.mark.parametrize("name", ["vdvae_digits"])
def test_a_run_of_0_1_opens_in_python(name: str, run: Path) -> None:
    trained = load(run, device="cpu")
    images = open_data(trained.spec).test.batch(range(3))
    assert trained.step == 4
    assert trained.decode(trained.encode(images)).shape == (3, 1, 8, 8)


def measured(run: Path, name: str) -> dict[str, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {str(row["step"]): row[name] for row in rows if row["event"] == "train" and row["step"] > 4}
