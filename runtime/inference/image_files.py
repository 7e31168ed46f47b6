"""Images as files: a folder of them, an array or a page, by the ending of what is to be written.

The one owner of that rule. What is written reads back as the same pixels under the same `data` section: values of
fewer bits are scaled to the range of 8 or, above 8 bits, of 16 (with `values = levels`, taken as they are), and real
numbers are real numbers. Means of pixels that are 0 or 1 are grey (with `values = levels`, the likelier of the two).
What a PNG cannot hold, real numbers and other numbers of channels, is an `.npy` per image.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hvdsl.compiler.settings import Data
from hvdsl.errors import UsageError
from hvdsl.runtime.ground.disk import writing
from hvdsl.runtime.ground.pixels import as_mean, pixel_bits, to_bytes

Form = Literal["folder", ".png", ".npy", ".npz"]
SHOWN = (1, 3)  # channels of a picture without transparency
DEEP = 16  # bits of a PNG's grey values above 8


@dataclass(frozen=True, slots=True)
class ImageOutput:
    """Where images go, and in which form."""

    path: Path
    form: Form

    @classmethod
    def of(cls, text: str | os.PathLike[str]) -> ImageOutput:
        """Read a place: what ends in a slash, has no ending or is a folder already is a folder.

        Raises:
            UsageError: it has another ending, or is nothing but one.
        """
        name, path = os.fspath(text), Path(text)
        ending = path.suffix.lower()
        if path.name.lower() in (".png", ".npy", ".npz") and not name.endswith(("/", os.sep)):
            raise UsageError(f"`{name}` is an ending without a name: write `{path.with_name('images' + path.name)}`")
        if name.endswith(("/", os.sep)) or path.is_dir() or not ending:
            return cls(path, "folder")
        match ending:
            case ".png" | ".npy" | ".npz":
                return cls(path, ending)
        raise UsageError(
            f"images cannot be written as `{name}`: give a folder (`{path.with_suffix('')}/`, an image file each), or "
            "a file that ends in .png (one page of all), .npy or .npz (an array of all)"
        )


def write_images(
    output: ImageOutput, images: Tensor, data: Data, names: Sequence[str] = (), *, columns: int | None = None
) -> str:
    """Write images `(N, C, H, W)` in raw pixel values; returns what was written, in words.

    Args:
        names: of the images, where they have some: what files in a folder are called after, and `names` in an `.npz`.
        columns: of a page; about square by default.

    Raises:
        DiskError: it cannot be written.
    """
    if output.form == "folder":
        folder = ImageFolder(output.path, data, file_names(names, len(images)))
        folder.write(range(len(images)), images)
        return folder.what(len(images))
    if output.form == ".png":
        save_png(grid(images, pixel_bits(data), columns), output.path)
        return f"{len(images):,} images on one page{_shown(images, data)}"
    array = as_array(images, data)
    with writing(output.path) as file:
        if output.form == ".npy":
            np.save(file, array, allow_pickle=False)
        else:
            texts = {"names": np.array(list(names))} if names else {}
            np.savez(file, allow_pickle=False, images=array, **texts)
    shape = "x".join(map(str, array.shape))
    return f"{len(images):,} images, {array.dtype} {shape}"


class ImageFolder:
    """A folder with a file for each image, written as they come.

    Args:
        stems: what each file is called, without its ending.
    """

    def __init__(self, path: Path, data: Data, stems: Sequence[str]) -> None:
        self.path, self._data, self._stems = path, data, stems
        self._bits, self._channels = pixel_bits(data), data.shape[0]
        transparent = data.background == "channel" and self._channels in (2, 4)
        pictured = self._channels in SHOWN or transparent
        deep = self._bits > 8 and self._channels != 1
        self.suffix = ".npy" if data.is_real or not pictured or deep else ".png"

    def file(self, index: int) -> Path:
        """The file of an image."""
        return self.path / f"{self._stems[index]}{self.suffix}"

    def holds(self, indices: Iterable[int]) -> bool:
        """Whether all of these images are there; each file is whole, or not there."""
        return all(self.file(i).is_file() for i in indices)

    def write(self, indices: Iterable[int], images: Tensor) -> None:
        """Write images of these numbers, raw pixel values `(N, C, H, W)`.

        Raises:
            DiskError: one cannot be written.
        """
        array = as_array(images, self._data)
        for index, pixels in zip(indices, array, strict=True):
            if self.suffix == ".png":
                save_png(self._picture(pixels), self.file(index))
                continue
            with writing(self.file(index)) as file:
                np.save(file, pixels, allow_pickle=False)

    def what(self, count: int) -> str:
        """What such a folder holds, in words."""
        if self.suffix == ".png":
            return f"{count:,} PNGs" + (" of 16 bits" if self._bits > 8 else "")
        return f"{count:,} .npy files (a PNG cannot hold them)"

    def _picture(self, pixels: NDArray[Any]) -> Image.Image:
        """An image `(H, W, C)` as a picture: grey of 8 or 16 bits, or 8 bits of colour."""
        return Image.fromarray(pixels[..., 0] if self._channels == 1 else pixels)


def as_array(images: Tensor, data: Data) -> NDArray[Any]:
    """Pixel values `(N, C, H, W)` as files have them: `(N, H, W, C)` uint8, uint16 above 8 bits, float32 if real."""
    last = images.detach().cpu().movedim(1, -1)
    if data.is_real:
        return np.ascontiguousarray(last.to(torch.float32).numpy())
    bits, depth = pixel_bits(data), 8 if pixel_bits(data) <= 8 else DEEP
    values = as_mean(last.to(torch.float64), data).clamp(0, 2**bits - 1).numpy()
    if data.values != "levels":
        values = values * ((2**depth - 1) / (2**bits - 1))
    return np.ascontiguousarray(np.rint(values).astype(np.uint8 if depth == 8 else np.uint16))


def file_names(names: Sequence[str], count: int) -> list[str]:
    """What the files of images are called: after the images' own files, or by numbers from 0.

    Folders among the names stay. Where two names differ in their endings alone, the endings stay.
    """
    width = max(5, len(str(max(0, count - 1))))
    numbers = [f"{i:0{width}}" for i in range(count)]
    given = [PurePath(name) for name in names]
    paths = [PurePath(path.name) if path.is_absolute() else path for path in given]
    if len(paths) != count or not all(_is_relative_file(path) for path in paths):
        return numbers
    stems = [str(path.with_suffix("")) for path in paths]
    if len({stem.lower() for stem in stems}) == count:
        return stems
    times = Counter(stem.lower() for stem in stems)
    unique = [str(p) if times[s.lower()] > 1 else s for s, p in zip(stems, paths, strict=True)]
    return unique if len({name.lower() for name in unique}) == count else numbers


def _is_relative_file(path: PurePath) -> bool:
    """Whether a name is one of a file within a folder: `image 3 of x.npy` is not, and neither is `../x.png`."""
    return bool(path.suffix) and " of " not in path.name and ".." not in path.parts


def _shown(images: Tensor, data: Data) -> str:
    """What a page of images cannot show, in words."""
    if data.is_real:
        return f", from {images.min().item():.4g} (black) to {images.max().item():.4g} (white)"
    if pixel_bits(data) > 8:
        return ", in 8 bits (a folder, .npy or .npz has all)"
    if images.shape[1] not in SHOWN:
        return (
            f", {'3' if images.shape[1] == 4 else '1'} of {images.shape[1]} channels (a folder, .npy or .npz has all)"
        )
    return ""


INK, FAINT, BAR, PAPER = (30, 30, 30), (205, 205, 205), (66, 110, 180), (255, 255, 255)
SMALLEST_TILE = 48  # pixels: images below this are enlarged by a whole factor, so that 8x8 digits can be seen


def grid(images: Tensor, bits: int, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Images `(N, C, H, W)` in raw pixel values, row by row; about square unless `columns` says otherwise."""
    tiles = to_bytes(images, bits)
    n, height, width, _ = tiles.shape
    scale = max(1, math.ceil(SMALLEST_TILE / max(height, width)))
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    step_y, step_x = height * scale + gap, width * scale + gap
    canvas = Image.new("RGB", (columns * step_x + gap, rows * step_y + gap), PAPER)
    for i, tile in enumerate(tiles):
        picture = Image.fromarray(tile).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        canvas.paste(picture, (gap + i % columns * step_x, gap + i // columns * step_y))
    return canvas


def labelled_rows(rows: Sequence[Tensor], labels: Sequence[str], bits: int) -> Image.Image:
    """One row of images per tensor `(N, C, H, W)`, each with its label to the left."""
    body = grid(torch.cat([row.float() for row in rows]), bits, columns=len(rows[0]))
    font = ImageFont.load_default(13)
    margin = max(round(font.getlength(label)) for label in labels) + 16
    canvas = Image.new("RGB", (margin + body.width, body.height), PAPER)
    canvas.paste(body, (margin, 0))
    draw = ImageDraw.Draw(canvas)
    for i, label in enumerate(labels):
        draw.text((margin - 8, (i + 0.5) * body.height / len(rows)), label, INK, font, anchor="rm")
    return canvas


def rate_bars(rates: Sequence[float], labels: Sequence[str], title: str) -> Image.Image:
    """Nats per image of each latent group, in order of generation, as horizontal bars with label and value."""
    font, bold = ImageFont.load_default(13), ImageFont.load_default(16)
    line, left = 20, max((round(font.getlength(label)) for label in labels), default=0) + 20
    width, top = left + 480, 44
    canvas = Image.new("RGB", (width, top + line * len(rates) + 34), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((12, 12), title, INK, bold)
    largest = max([*rates, 1e-9])
    room, bottom = width - left - 90, top + line * len(rates)
    for i, (rate, label) in enumerate(zip(rates, labels, strict=True)):
        y = top + i * line
        end = left + round(max(0.0, rate) / largest * room)
        draw.rectangle((left, y + 3, max(left + 1, end), y + line - 4), BAR)
        draw.text((left - 8, y + line / 2), label, INK, font, anchor="rm")
        draw.text((end + 6, y + line / 2), f"{rate:.3g}", INK, font, anchor="lm")
    draw.line((left, top, left, bottom), FAINT)
    draw.text((left, bottom + 8), f"nats per image; total {sum(rates):.4g}", INK, font)
    return canvas


def save_png(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Write a PNG, making its folder.

    Raises:
        DiskError: It cannot be written.
    """
    with writing(path) as file:
        picture.save(file, format="PNG")
    return Path(path)
