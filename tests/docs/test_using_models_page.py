"""`docs/using_models.md` runs as it is written, and its pictures are what its commands draw.

`HVDSL_UPDATE=1` writes the pictures anew.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvdsl
from hvdsl.cli.main import main
from hvdsl.runtime.inference.image_files import ImageFolder

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "using_models.md").read_text("utf-8")
BLOCK = re.compile(r"^```(sh|python|hv)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURES = re.findall(r'<img src="images/([\w.]+)"', PAGE)


def prepare() -> None:
    """The run, the images and the mask that the page speaks of."""
    overrides: dict[str, bool | int | float | str] = {"width": 16, "train.batch": 32, "train.evaluate_every": 1000}
    hvdsl.train("vdvae_digits", overrides=overrides, steps=600, seed=1, out="runs/digits", device="cpu", threads=1)
    spec = hvdsl.compile("vdvae_digits")
    digits = hvdsl.open_data(spec).test.batch(range(40))
    shuffled = np.random.default_rng(0).permuted(digits.reshape(40, -1), axis=1).reshape(digits.shape)
    for folder, images in (("images", digits), ("others", shuffled)):
        stems = [f"{i:02}" for i in range(40)]
        ImageFolder(Path(folder), spec.model.settings.data, stems).write(range(40), torch.from_numpy(images))
    shutil.copy("images/05.png", "a.png")
    shutil.copy("images/03.png", "b.png")
    hole = np.zeros((8, 8), bool)
    hole[2:5, 2:5] = True
    Image.fromarray(hole).save("hole.png")


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    prepare()
    names: dict[str, object] = {}
    for kind, text in BLOCK.findall(PAGE):
        if kind == "python":
            exec(compile(text, "using_models.md", "exec"), names)
        elif kind == "hv":
            Path("large.hv").write_text(text, "utf-8")
        else:
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if "RUN" in words:  # a conditioned model, of which there is none here
                    continue
                assert words[0] == "hvdsl" or "pytorch_fid" in words  # that fetches a network
                assert words[0] != "hvdsl" or main(words[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "500 PNGs, 500 of them from before" in said
    taken = re.search(r"weights from \S+: (\d+) of the model's (\d+) tensors", said)
    assert taken and 0.7 < int(taken[1]) / int(taken[2]) < 1
    auroc, painted = names["auroc"], names["painted"]
    assert isinstance(auroc, float) and auroc > 0.9
    assert isinstance(painted, torch.Tensor) and painted.shape == (40, 1, 8, 8)
    for folder, count in (("samples", 500), ("seen", 40)):  # what tools for Fréchet distances read
        files = sorted(Path(folder).glob("*.png"))
        assert len(files) == count
        assert {(picture.mode, picture.size) for picture in map(Image.open, files)} == {("L", (8, 8))}
    for name in PICTURES:
        kept = DOCS / "images" / name
        if os.environ.get("HVDSL_UPDATE"):
            shutil.copy(name, kept)
        elif kept.suffix == ".png":
            assert Image.open(kept).size == Image.open(name).size


def test_the_pictures_of_the_page_are_there_and_small() -> None:
    assert PICTURES == ["way.png", "holes.png", "roc.svg"]
    assert all(0 < (DOCS / "images" / name).stat().st_size < 60_000 for name in PICTURES)
