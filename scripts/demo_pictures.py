"""The pictures of the demo: real and drawn digits, counterfactuals, reconstructions by depth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import hvdsl
from hvdsl.runtime.data.dataset import Dataset

TILE, GAP, HEAD = 56, 6, 34
INK, FAINT, PAPER = (28, 30, 36), (110, 116, 128), (255, 255, 255)
CLASSES = 10


def draw(run: Path, out: Path) -> float:
    """Write the pictures of a run; return the bits per dimension of a histogram per pixel and class."""
    torch.set_num_threads(1)
    trained = hvdsl.load(run, device="cpu")
    data = hvdsl.open_data(trained.spec)
    digits(trained, data.train, out / "digits.png")
    counterfactuals(trained, data.test, out / "counterfactuals.png")
    depths(trained, data.test, out / "depths.png")
    return histogram_by_class(data.train, data.test)


def digits(trained: hvdsl.Trained, images: Dataset, path: Path, each: int = 4) -> None:
    """Training images on the left, draws from the priors on the right: a column of each class."""
    places = [of_class(images, c)[i] for i in range(each) for c in range(CLASSES)]
    label = torch.arange(CLASSES).repeat(each)
    drawn = trained.sample(CLASSES * each, given={"label": label}, temperature=0.85, mean=True)
    heads = [str(c) for c in range(CLASSES)]
    left = panel("Real: training images", pixels_of(images, places), CLASSES, [], heads)
    right = panel("Drawn by the model, given the class", drawn, CLASSES, [], heads)
    save(side_by_side([left, right]), path)


def counterfactuals(trained: hvdsl.Trained, images: Dataset, path: Path) -> None:
    """Each row: a test image, then what it would be as each of the ten digits, its latents' own parts kept."""
    places = [of_class(images, c)[0] for c in (0, 2, 4, 5, 7, 9)]
    real = pixels_of(images, places)
    label = torch.from_numpy(classes(images)[places])
    edits = [trained.edit(real, {"label": c}, given={"label": label}).edited for c in range(CLASSES)]
    others = torch.stack(edits, 1).flatten(0, 1)
    left = panel("Real", real, 1, [f"a {c}" for c in label.tolist()])
    right = panel("The same hand, had it written", others, CLASSES, [], [str(c) for c in range(CLASSES)])
    save(side_by_side([left, right]), path)


def depths(trained: hvdsl.Trained, images: Dataset, path: Path) -> None:
    """Test images as the first groups of the hierarchy know them."""
    places = [of_class(images, c)[1] for c in range(CLASSES)]
    real = pixels_of(images, places)
    label = torch.arange(CLASSES)
    groups = len(trained.model.LATENTS)
    rows, names = [real], ["real"]
    for keep in range(groups, -1, -1):
        rows.append(trained.reconstruct(real, keep=keep, given={"label": label}))
        names.append("the class alone" if keep == 0 else f"{'all' if keep == groups else keep} of {groups} groups")
    save(panel("Test images, and what the first latent groups know of them", torch.cat(rows), CLASSES, names), path)


def histogram_by_class(train: Dataset, test: Dataset) -> float:
    """Bits per dimension of test images under a histogram per pixel and class; levels count once more than seen."""
    levels = 16
    seen = np.ones((CLASSES, 64, levels))
    images, labels = train.batch(range(len(train))).reshape(-1, 64), classes(train)
    for pixel in range(64):
        np.add.at(seen, (labels, pixel, images[:, pixel]), 1)
    probability = seen / seen.sum(-1, keepdims=True)
    images, labels = test.batch(range(len(test))).reshape(-1, 64), classes(test)
    return float(-np.log2(probability[labels[:, None], np.arange(64), images]).mean())


def pixels_of(images: Dataset, places: list[int]) -> Tensor:
    """Images as whole numbers (N, 1, 8, 8)."""
    return torch.from_numpy(images.batch(places).astype(np.int64))


def classes(images: Dataset) -> NDArray[np.int64]:
    """The class of each image."""
    labels = images.labels(range(len(images)))
    assert labels is not None  # the digits have classes
    return labels


def of_class(images: Dataset, label: int) -> list[int]:
    """The places of the images of a class."""
    return [int(place) for place in np.flatnonzero(classes(images) == label)]


def panel(title: str, pictures: Any, columns: int, rows: list[str], heads: list[str] | None = None) -> Image.Image:
    """Pictures `(N, 1, 8, 8)` of 16 grey levels in rows, with a title and names of rows and columns."""
    font, bold = ImageFont.load_default(15), ImageFont.load_default(17)
    pixels = (pictures.to(torch.float32) if isinstance(pictures, Tensor) else torch.tensor(pictures)) * 17
    margin = max((round(font.getlength(row)) for row in rows), default=0) + (14 if rows else 0)
    top = HEAD + (24 if heads else 0)
    count = -(-len(pixels) // columns)
    width = max(margin + columns * (TILE + GAP), round(bold.getlength(title)) + 8)
    page = Image.new("RGB", (width, top + count * (TILE + GAP)), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((margin, 6), title, INK, bold)
    for i, head in enumerate(heads or []):
        pen.text((margin + i * (TILE + GAP) + TILE / 2, HEAD + 8), head, FAINT, font, anchor="mm")
    for i, row in enumerate(rows):
        pen.text((margin - 10, top + i * (TILE + GAP) + TILE / 2), row, FAINT, font, anchor="rm")
    for i, tile in enumerate(pixels[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()):
        large = Image.fromarray(255 - tile).resize((TILE, TILE), Image.Resampling.BICUBIC)
        place = margin + i % columns * (TILE + GAP), top + i // columns * (TILE + GAP)
        page.paste(large, place)
        pen.rectangle((*place, place[0] + TILE - 1, place[1] + TILE - 1), outline=(225, 228, 234))
    return page


def side_by_side(panels: list[Image.Image], space: int = 36) -> Image.Image:
    width = sum(image.width for image in panels) + space * (len(panels) - 1)
    page = Image.new("RGB", (width, max(image.height for image in panels)), PAPER)
    x = 0
    for image in panels:
        page.paste(image, (x, page.height - image.height))
        x += image.width + space
    return page


def save(image: Image.Image, path: Path) -> None:
    page = Image.new("RGB", (image.width + 32, image.height + 24), PAPER)
    page.paste(image, (16, 12))
    page.quantize(64).save(path, optimize=True)  # greys: a third of the bytes


if __name__ == "__main__":
    print(draw(Path(sys.argv[1]), Path(sys.argv[2])))
