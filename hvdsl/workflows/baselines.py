"""What simple coders need for the same images: the yardsticks beside a model's bits per dimension."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvdsl.errors import HvdslError
from hvdsl.runtime.training.batches import PixelSource

BATCH = 256


def histogram_bits_per_dim(train: PixelSource, images: PixelSource, levels: int) -> float:
    """Return the code length under a histogram of each position and channel, counted on the training images.

    Counts start at one half for each of the `levels` values (Krichevsky & Trofimov 1981): none costs infinity.
    """
    counts: NDArray[np.float64] | None = None
    total = 0
    for pixels in _batches(train):
        flat = pixels.reshape(len(pixels), -1)
        if counts is None:
            counts = np.full((flat.shape[1], levels), 0.5)
        for values, row in zip(flat.T, counts, strict=True):
            row += np.bincount(values, minlength=levels)
        total += len(flat)
    if counts is None:
        raise HvdslError(f"{train.name} has no images to count")
    bits = -np.log2(counts / (total + 0.5 * levels))
    lengths = [bits[np.arange(len(bits)), pixels.reshape(len(pixels), -1)].mean(1) for pixels in _batches(images)]
    return float(np.concatenate(lengths).mean())


def png_bits_per_dim(images: PixelSource) -> float | None:
    """Return the size of each image as a PNG file of its own, headers included; None where PNG cannot hold them."""
    sizes: list[float] = []
    for pixels in _batches(images):
        if pixels.shape[1] not in (1, 3) or pixels.max() > 255:
            return None
        for image in pixels.astype(np.uint8):
            file = BytesIO()
            picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", optimize=True)
            sizes.append(8 * file.tell() / image.size)
    return float(np.mean(sizes))


def _batches(images: PixelSource) -> Iterator[NDArray[np.uint16]]:
    for start in range(0, len(images), BATCH):
        yield images.batch(range(start, min(start + BATCH, len(images))), 0)
