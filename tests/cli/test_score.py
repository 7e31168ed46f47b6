"""Scores of images, telling sets of images apart, and the way from one image to another."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvdsl as library
from hvdsl.workflows.interpolate import slerp
from hvdsl.workflows.score import roc

from .conftest import Hvdsl

CPU = ("--device", "cpu")


def test_each_image_is_scored_under_its_name(hvdsl: Hvdsl, digits_run: Path, digit_files: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    result = hvdsl("score", digits_run, "--data", digit_files, "--samples", "3", "--llr", "2", "-o", table, *CPU)
    assert result.code == 0, result.err
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"{letter}.png" for letter in "abcdef"]
    trained = library.load(digits_run, device="cpu")
    elbo, weighted = trained.elbo(digit_files), trained.elbo(digit_files, samples=3)
    for i, row in enumerate(rows):
        nats = float(row["distortion_nats"]) + float(row["rate_nats"])
        assert float(row["negative_elbo_nats"]) == pytest.approx(nats)
        assert float(row["bits_per_dim"]) == pytest.approx(nats / 64 / math.log(2))
        assert float(row["importance_bound_nats_K3"]) == pytest.approx(weighted.elbo[i].item())
        assert float(row["rate_nats decoder.r1.layer.0.z"]) >= 0
    alone = trained.score(digit_files, llr=0)
    assert torch.equal(-alone.negative_elbo, elbo.elbo)
    assert alone.llr is None
    assert alone.highest(1)[0][0] == alone.names[int(elbo.elbo.argmin())]


def test_a_likelihood_ratio_is_the_bound_less_the_bound_of_fewer_groups(digits_run: Path, digit_files: Path) -> None:
    trained = library.load(digits_run, device="cpu")
    scores = trained.score(digit_files, llr=8 - 1)
    again = trained.score(digit_files, llr=8 - 1, batch=2)
    assert scores.llr is not None and again.llr is not None
    assert torch.allclose(scores.llr, again.llr, atol=1e-4)
    with pytest.raises(library.Error, match="leave none from the posterior"):
        trained.score(digit_files, llr=8)


def test_shuffled_and_inverted_digits_are_told_apart(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path) -> None:
    digits = library.open_data(library.load(digits_run, device="cpu").spec).test.batch(range(40))
    order = np.random.default_rng(0).permutation(64)
    sets = {
        "digits": digits,
        "inverted": 15 - digits,
        "shuffled": digits.reshape(40, 64)[:, order].reshape(40, 1, 8, 8),
    }
    for name, pixels in sets.items():
        np.save(tmp_path / f"{name}.npy", (17 * pixels).astype(np.uint8))
    for other in ("inverted", "shuffled"):
        drawn = tmp_path / f"{other}.svg"
        arguments = ("--data", tmp_path / "digits.npy", "--against", tmp_path / f"{other}.npy", "--json", *CPU)
        result = hvdsl("score", digits_run, *arguments, "--roc", drawn)
        assert result.code == 0, result.err
        answer = json.loads(result.out)
        assert answer["auroc"]["negative ELBO"] > 0.95, other
        assert [len(scores["names"]) for scores in answer["sets"]] == [40, 40]
        assert "AUROC" in drawn.read_text()


def test_the_area_counts_pairs_and_half_of_ties() -> None:
    first, second = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 9.0])
    pairs = [(a, b) for a in first.tolist() for b in second.tolist()]
    wins = sum(1.0 if b > a else 0.5 if b == a else 0.0 for a, b in pairs)
    assert roc(first, second).auroc == pytest.approx(wins / len(pairs))
    assert roc(first, first).auroc == pytest.approx(0.5)


def test_what_cannot_be_scored_is_said(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path) -> None:
    for words, options in {
        "ends in .csv": ("-o", tmp_path / "scores.txt"),
        "give the other set": ("--roc", tmp_path / "roc.png"),
        "leave none": ("--llr", "8"),
    }.items():
        result = hvdsl("score", digits_run, *options, *CPU)
        assert result.code == 2 and words in result.err


def test_evaluation_says_how_near_reconstructions_are(hvdsl: Hvdsl, digits_run: Path) -> None:
    result = hvdsl("eval", digits_run, "--json", *CPU)
    answer = json.loads(result.out)
    assert 3 < answer["psnr_db"] < 40 and -1 < answer["ssim"] < 1


def test_the_way_begins_and_ends_at_the_reconstructions(
    hvdsl: Hvdsl, digits_run: Path, digit_files: Path, tmp_path: Path
) -> None:
    a, b = digit_files / "a.png", digit_files / "b.png"
    trained = library.load(digits_run, device="cpu")
    for curve in ("spherical", "linear"):
        result = hvdsl(
            "interpolate", digits_run, a, b, "--curve", curve, "--steps", "5", "-o", f"{tmp_path}/x.npy", *CPU
        )
        assert result.code == 0, result.err
        frames = torch.from_numpy(np.load(tmp_path / "x.npy")).movedim(-1, 1) // 17
        assert frames.shape == (5, 1, 8, 8)
        assert torch.equal(frames[[0, -1]], trained.reconstruct([a, b]))
    page = hvdsl("interpolate", digits_run, a, b, "--groups", "0:2", "--steps", "4", "-o", tmp_path / "x.png", *CPU)
    assert page.code == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == 4 * 50 + 2
    only_first = trained.interpolate(a, b, groups="0", steps=3)
    assert torch.equal(only_first[:1], trained.reconstruct(a))


def test_one_image_and_one_group_vary_that_group(digits_run: Path, digit_files: Path) -> None:
    trained = library.load(digits_run, device="cpu")
    a = digit_files / "a.png"
    varied = trained.interpolate(a, groups="4x4", steps=4, seed=3)
    assert torch.equal(varied[:1], trained.reconstruct(a))
    assert varied.shape == (4, 1, 8, 8)
    for words, call in {
        "say with `--groups`": lambda: trained.interpolate(a),
        "2 steps or more": lambda: trained.interpolate(a, a, steps=1),
        "one other": lambda: trained.interpolate(digit_files),
    }.items():
        with pytest.raises(library.Error, match=words):
            call()


def test_a_great_circle_keeps_the_length() -> None:
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 3.0, 0.0])
    assert torch.allclose(slerp(a, b, 0.5), torch.tensor([1.0, 1.0, 0.0]) * 3 / math.sqrt(2))
    assert torch.allclose(slerp(a, 2 * a, 0.5), 1.5 * a)
    assert torch.allclose(slerp(a, 0 * a, 0.25), 0.75 * a)
