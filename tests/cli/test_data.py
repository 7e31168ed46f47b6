"""`hvdsl data`, and what commands say of their data."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from .conftest import Hvdsl

SPEC = """hv 1
model tiny
data images { shape = 4x8x8, input = v / 127.5 - 1 }
group layer {
  z ~ normal(conv(1x1, 4)) posterior normal(concat(x, skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, 4))
}
encoder { 8: conv(3x3, 4) -> tap }
decoder { 8: learned(zeros, 4) -> layer -> conv(1x1, logits) }
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 2, batch = 4, optimizer = adam(lr = 1e-3), log_every = 1 }
"""
REAL = SPEC.replace("input = v / 127.5 - 1", "values = real, input = (v - 270) / 15").replace(
    "discretized_logistic_mixture(2)", "normal"
)
DEEP = SPEC.replace("4x8x8, input = v / 127.5 - 1", "1x8x8, bits = 12, input = v / 2047.5 - 1")


def write(folder: Path, count: int, channels: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(np.random.default_rng(count).integers(0, 256, (count, 8, 8, channels), dtype=np.uint8)):
        Pillow.fromarray(image).save(folder / f"{i:02}.png")


def test_data_says_what_a_folder_holds(hvdsl: Hvdsl, tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        write(tmp_path / "set" / name, 3, 3)
    (tmp_path / "set" / ".DS_Store").write_bytes(b"")
    result = hvdsl("data", tmp_path / "set", "-o", tmp_path / "sheet.png", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["parts"] == {"train": 6, "validation": 6}
    assert found["classes"] == {"cat": 3, "dog": 3}
    assert found["sizes"] == [{"channels": 3, "height": 8, "width": 8, "images": 12}]
    assert len(found["duplicates"]["across"]) == 6  # the generator's seed is the number of images
    assert found["left_out"] == [{"name": ".DS_Store", "reason": "a hidden name"}]
    assert "classes = 2" in found["lines"]
    with Pillow.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100
    text = hvdsl("data", tmp_path / "set")
    assert "the same image in two parts:" in text.out
    assert "  shape = 3x8x8\n" in text.out


@pytest.mark.parametrize(
    ("spec", "images"),
    [
        (SPEC, np.random.default_rng(0).integers(0, 256, (8, 8, 8, 4), dtype=np.uint8)),
        (REAL, np.random.default_rng(0).normal(270, 15, (8, 4, 8, 8))),
        (DEEP, np.random.default_rng(0).integers(0, 1 << 16, (8, 8, 8), dtype=np.uint16)),
    ],
)
def test_four_channels_real_numbers_and_12_bits_from_file_to_samples(
    hvdsl: Hvdsl, tmp_path: Path, spec: str, images: np.ndarray
) -> None:
    (tmp_path / "a.hv").write_text(spec)
    np.save(tmp_path / "x.npy", images)
    run = tmp_path / "run"
    result = hvdsl("train", tmp_path / "a.hv", "--data", tmp_path / "x.npy", "--out", run)
    assert result.code == 0, result.err
    assert "data: 8 images; 1 held out for validation" in result.err + result.out
    evaluated = hvdsl("eval", run, "--data", tmp_path / "x.npy")
    assert f"8 images of {tmp_path / 'x.npy'}" in evaluated.out
    for command in ("sample", "reconstruct"):
        result = hvdsl(command, run, "-n", "2", "-o", tmp_path / f"{command}.png")
        assert result.code == 0, result.err


def test_one_image_has_no_error_bar(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "a.hv").write_text(SPEC)
    write(tmp_path / "data", 6)
    run = tmp_path / "run"
    assert hvdsl("train", tmp_path / "a.hv", "--data", tmp_path / "data", "--out", run).code == 0
    image = tmp_path / "data" / "03.png"
    result = hvdsl("eval", run, "--data", image)
    assert f"(1 image of {image})" in result.out
    assert "±" not in result.out
    assert json.loads(hvdsl("eval", run, "--data", tmp_path / "data", "--json").out)["names"][3] == "03.png"


def test_numbers_that_are_not_finite_are_counted(hvdsl: Hvdsl, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 3, (5, 8, 8))
    values[2, 1, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    result = hvdsl("data", tmp_path / "x.npy")
    assert result.code == 0, result.err
    assert "in 5 images, 1 with NaN or an infinity, which are refused" in result.out
    assert "  values = real\n" in result.out


QUANTIZED = """hv 1
model vq
data images { shape = 3x8x8, input = v / 127.5 - 1 }
encoder { 8: conv(3x3, 4) -> relu -> avg_pool(2)
  4: conv(3x3, 4) -> tap }
decoder { 4: { z ~ codebook(8, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = z }
  8: nearest(2) -> conv(1x1, logits) }
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
train { steps = 2, batch = 4, optimizer = adam(lr = 1e-3), log_every = 1 }
"""


def test_codes_of_own_images_are_of_all_in_order_with_their_names(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "a.hv").write_text(QUANTIZED)
    write(tmp_path / "data", 12, 3)
    run = tmp_path / "run"
    result = hvdsl("train", tmp_path / "a.hv", "--data", tmp_path / "data", "--out", run)
    assert result.code == 0, result.err
    result = hvdsl("codes", run, "--data", tmp_path / "data", "-o", tmp_path / "codes.npz")
    assert f"codes of 12 images of {tmp_path / 'data'}" in result.err
    with np.load(tmp_path / "codes.npz") as stored:
        assert stored["z"].shape == (12, 4, 4)
        assert stored["names"].tolist() == [f"{i:02}.png" for i in range(12)]
    assert "codes of 11 train images" in hvdsl("codes", run, "-o", tmp_path / "own.npz").err


def test_what_is_said_of_images_is_of_what_a_model_sees(hvdsl: Hvdsl, tmp_path: Path) -> None:
    hidden = np.zeros((4, 8, 8, 4), np.uint8)
    hidden[:, :, 4:] = 255  # the right half is white, the left half hides black under full transparency
    (tmp_path / "sprites").mkdir()
    for i, image in enumerate(hidden):
        Pillow.fromarray(image).save(tmp_path / "sprites" / f"{i}.png")
    found = json.loads(hvdsl("data", tmp_path / "sprites", "--json").out)
    assert (found["mean"], found["deviation"]) == (255, 0)
    assert "alpha = white" in found["lines"]


def test_images_that_are_in_two_parts_of_a_packed_file_are_found(hvdsl: Hvdsl, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    with tarfile.open(tmp_path / "x.tar", "w:") as archive:
        for name, which in (("train/0", 0), ("train/1", 1), ("train/2", 1), ("test/0", 0), ("test/1", 2)):
            file = io.BytesIO()
            Pillow.fromarray(images[which]).save(file, "PNG", compress_level=which)
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(file.getvalue())
            archive.addfile(member, io.BytesIO(file.getvalue()))
    out = hvdsl("data", tmp_path / "x.tar").out
    assert "the same image in two parts: train: train/0.png in x.tar = test: test/0.png in x.tar" in out
    assert "1 image repeats another of the same part" in out
