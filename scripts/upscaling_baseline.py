"""Bits per dimension of bicubic upscaling with a histogram: what `vdvae_photos_upscaling` has to beat.

Each 16x16 image, made of a crop as the spec's field `low` is, is upscaled to 32x32 (Pillow's bicubic filter). A
histogram of what a pixel differs from that by, counted on training crops with one more of each difference, gives its
probability among the values that a pixel can have. The second figure has a histogram for each of eight classes of local
contrast (how far the upscaled pixel is from its neighbours), fitted on the same crops.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

import hvdsl
from hvdsl.runtime.data.dataset import Dataset

CLASSES = 8  # of local contrast
VALUES = 256


def bicubic(low: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int64]:
    """Upscale images `(N, C, H, W)` to whole values 0 … 255."""
    planes = low.reshape(-1, *low.shape[2:])
    large = [np.asarray(Pillow.fromarray(p).resize(size[::-1], Pillow.Resampling.BICUBIC)) for p in planes]
    values: NDArray[np.int64] = np.clip(np.rint(np.stack(large)), 0, VALUES - 1).astype(np.int64)
    return values.reshape(*low.shape[:2], *size)


def contrast(images: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far each pixel is from its four neighbours, at the edge from those it has."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    around = (padded[..., :-2, 1:-1], padded[..., 2:, 1:-1], padded[..., 1:-1, :-2], padded[..., 1:-1, 2:])
    differences: NDArray[np.float64] = np.stack([np.abs(images - each) for each in around]).max(0).astype(np.float64)
    return differences


class Histograms:
    """Histograms of residuals, one for each class of contrast."""

    def __init__(self, pixels: NDArray[np.int64], upscaled: NDArray[np.int64], classes: int) -> None:
        quantiles = np.linspace(0, 1, classes + 1)[1:-1]
        self._edges = np.quantile(contrast(upscaled), quantiles)
        self._counts = np.ones((classes, 2 * VALUES - 1))
        np.add.at(self._counts, (self._class(upscaled), pixels - upscaled + VALUES - 1), 1)

    def bits(self, pixels: NDArray[np.int64], upscaled: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bits of each pixel value."""
        total = np.concatenate((np.zeros((len(self._counts), 1)), self._counts.cumsum(1)), 1)
        own, lowest = self._class(upscaled), VALUES - 1 - upscaled  # the place of the residual that gives the value 0
        possible = total[own, lowest + VALUES] - total[own, lowest]
        bits: NDArray[np.float64] = np.log2(possible / self._counts[own, pixels + lowest])
        return bits

    def _class(self, upscaled: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._edges, contrast(upscaled), side="right")


def read(images: Dataset, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first crops, and their `low` upscaled."""
    pixels, given = images.conditioned(range(count), ["low"])
    return pixels.astype(np.int64), bicubic(given["low"], pixels.shape[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=4096, help="training crops that the histograms are fitted on")
    args = parser.parse_args()
    splits = hvdsl.open_data("vdvae_photos_upscaling")
    fitted = read(splits.train, args.crops)
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        held = read(part, len(part))
        for classes in (1, CLASSES):
            bits = Histograms(*fitted, classes).bits(*held).mean((1, 2, 3))
            error = bits.std(ddof=1) / np.sqrt(len(bits))
            kind = "one histogram" if classes == 1 else f"histograms of {classes} contrasts"
            print(f"{name}: bicubic and {kind}: {bits.mean():.3f} ± {error:.3f} bits/dim")


if __name__ == "__main__":
    main()
