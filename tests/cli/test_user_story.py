"""From a folder of photographs of many sizes to numbers, latents and the way between two images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvdsl.cli.main import main

from .conftest import Hvdsl

pytestmark = pytest.mark.slow  # trains a copy of a shipped spec
CPU = ("--device", "cpu")


def photographs(folder: Path, count: int, seed: int) -> None:
    """Write smooth pictures: colours that pass from one to another, of sizes and qualities of their own; some grey."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for index in range(count):
        corners = Image.fromarray(generator.integers(60, 200, (2, 2, 3), dtype=np.uint8))
        size = (int(generator.integers(36, 60)), int(generator.integers(36, 60)))
        picture = corners.resize(size, Image.Resampling.BILINEAR).convert("L" if index % 10 == 9 else "RGB")
        picture.save(folder / f"IMG_{index:04}.jpg", quality=int(generator.integers(70, 96)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a copied spec with the lines that `hvdsl data` proposes, and a run."""
    home = tmp_path_factory.mktemp("home")
    photographs(home / "path/to/images", 40, seed=0)
    photographs(home / "path/to/other/images", 5, seed=1)
    assert main(["specs", "copy", "vdvae_photos", str(home / "my.hv")]) == 0
    text = (home / "my.hv").read_text()
    text = re.sub(r"let w = .*", "let w = [32: 8, 16: 8, else: 8]", text)
    data = "data images { shape = 3x32x32, resize = 32x32, bits = 8, input = v / 127.5 - 1, holdout = 4 }"
    (home / "my.hv").write_text(re.sub(r"data photos .*", data, text))
    train = ["train", str(home / "my.hv"), "--data", str(home / "path/to/images"), "--out", str(home / "runs/my")]
    assert main([*train, "--steps", "40", *CPU]) == 0
    return home


def test_data_says_what_the_spec_lacks(hvdsl: Hvdsl, home: Path, tmp_path: Path) -> None:
    looked = hvdsl("data", home / "path/to/images", "-o", tmp_path / "sheet.png")
    assert looked.code == 0, looked.err
    assert "40 images" in looked.out and "resize = 32x32" in looked.out
    assert Image.open(tmp_path / "sheet.png").width > 32


def test_the_run_learned_and_all_own_images_are_scored(hvdsl: Hvdsl, home: Path) -> None:
    records = [json.loads(line) for line in (home / "runs/my/metrics.jsonl").read_text().splitlines()]
    bits = [record["bits_per_dim"] for record in records if record["event"] == "validation"]
    assert bits and bits[-1] < 9
    result = hvdsl("eval", home / "runs/my", "--data", home / "path/to/other/images", *CPU)
    assert result.code == 0 and "5 images of" in result.out, result.err


def test_latents_and_the_way_between_two_images(hvdsl: Hvdsl, home: Path, tmp_path: Path) -> None:
    images = home / "path/to/other/images"
    result = hvdsl("encode", home / "runs/my", "--data", images, "-o", tmp_path / "latents.npz", *CPU)
    assert result.code == 0, result.err
    with np.load(tmp_path / "latents.npz") as latents:
        assert all(len(latents[key]) == 5 for key in latents.files if key.startswith("decoder"))
    first, second = sorted(images.iterdir())[:2]
    result = hvdsl("interpolate", home / "runs/my", first, second, "--steps", "3", "-o", tmp_path / "way.npy", *CPU)
    assert result.code == 0, result.err
    assert np.load(tmp_path / "way.npy").shape == (3, 32, 32, 3)
