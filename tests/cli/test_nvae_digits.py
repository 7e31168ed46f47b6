"""The shipped small NVAE through the command line: train, eval, sample with statistics measured again, reconstruct."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvdsl.cli.main import main
from hvdsl.compiler.catalogue.objective_terms import find_term

from .conftest import Hvdsl

SHORT = (
    "--steps",
    "4",
    "--batch",
    "8",
    *(
        part
        for setting in ("train.warmup=2", "train.log_every=1", "evaluate.samples=2", "sample.recalibrate_batch_norm=2")
        for part in ("--set", setting)
    ),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("runs") / "nvae"
    assert main(["train", "nvae_digits", "--out", str(folder), "--threads", "1", "--device", "cpu", *SHORT]) == 0
    yield folder
    torch.set_num_threads(threads)


def test_every_term_of_the_objective_is_logged_and_adds_up(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row.get("event", "train") == "train"]
    assert len(steps) == 4
    for row in steps:
        dims = row["negative_elbo_nats_per_image"] / row["negative_elbo_nats_per_dim"]
        of_batch = (row["distortion_nats_per_dim"] + row["weighted_rate_nats_per_dim"]) * dims
        of_weights = row["weighted_spectral_nats_per_image"] + row["weighted_batch_norm_gamma_nats_per_image"]
        assert row["objective"] == pytest.approx(of_batch + of_weights, rel=1e-4)
        assert len(row["rate_per_group_nats_per_image"]) == 4


def test_every_logged_term_is_explained(trained: Path) -> None:
    row = json.loads((trained / "metrics.jsonl").read_text().splitlines()[0])
    terms = {
        name for name in row if any(part in name for part in ("nats", "bits", "_sum", "beta", "rate_", "objective"))
    }
    assert len(terms) >= 14
    assert [name for name in terms if find_term(name) is None] == []


def test_eval_gives_the_importance_weighted_bound(hvdsl: Hvdsl, trained: Path) -> None:
    one, more = (
        json.loads(hvdsl("eval", trained, "--json", "--samples", k, "--threads", "1", "--device", "cpu").out)
        for k in ("1", "3")
    )
    assert len(one["rate_per_group"]) == 4
    assert all(math.isfinite(value["bits_per_dim"]) for value in (one, more))
    assert one["nats_per_dim"] == pytest.approx(one["distortion"] + one["rate"])


def test_samples_depend_on_recalibration_and_images_are_reconstructed(
    hvdsl: Hvdsl, trained: Path, tmp_path: Path
) -> None:
    for passes in ("0", "40"):
        out = tmp_path / f"{passes}.png"
        arguments = ("-n", "16", "--temperature", "0.7", "--recalibrate", passes, "--threads", "1", "--device", "cpu")
        assert hvdsl("sample", trained, *arguments, "-o", out).code == 0
    without, after = (np.asarray(Image.open(tmp_path / f"{passes}.png")) for passes in ("0", "40"))
    assert (without != after).any()
    out = tmp_path / "reconstructions.png"
    assert hvdsl("reconstruct", trained, "-n", "2", "-o", out, "--threads", "1", "--device", "cpu").code == 0
    assert np.asarray(Image.open(out)).std() > 0
