"""What `vdvae_photos_upscaling` and `vdvae_photos_inpainting` have to beat: bits/dim of guesses with histograms.

Upscaling: each 16x16 image, made of a crop as the spec's field `low` is, is upscaled to 32x32 (bicubic).
In-painting: the box that the spec's field `hole` hides is filled from its border, each pixel the mean of its neighbours
(the discrete Laplace equation). A histogram of what a pixel differs from that by, counted on training crops with one
more of each difference, gives its probability among the values that a pixel can have. The second figure has a histogram
for each of eight classes: of local contrast (how far the upscaled pixel is from its neighbours), or of the distance
from the border of the box.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

import hvdsl
from hvdsl.runtime.data.dataset import Dataset

CLASSES = 8
ROUNDS = 400
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


def filled(pixels: NDArray[np.int64], hole: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Fill holes `(N, 1, H, W)` of images from their borders, by as many rounds of averages as settle."""
    values = np.where(hole, 128.0, pixels)
    for _ in range(ROUNDS):
        padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        mean = (padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]) / 4
        values = np.where(hole, mean, pixels)
    whole: NDArray[np.int64] = np.rint(values).astype(np.int64)
    return whole


def depth(hole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many steps a hidden pixel is from what is left, `(N, 1, H, W)`; 0 where it is not hidden."""
    inside, steps = hole, np.zeros(hole.shape)
    while inside.any():
        steps += inside
        padded = np.pad(inside, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        around = padded[..., :-2, 1:-1] & padded[..., 2:, 1:-1] & padded[..., 1:-1, :-2] & padded[..., 1:-1, 2:]
        inside = inside & around
    return steps


@dataclass(frozen=True)
class Guesses:
    """Pixels that are scored, what each is guessed to be, what the guess is classed by, and its image, `(M,)` each."""

    pixels: NDArray[np.int64]
    guess: NDArray[np.int64]
    by: NDArray[np.float64]
    image: NDArray[np.int64]


class Histograms:
    """Histograms of residuals, one for each class of guesses."""

    def __init__(self, fitted: Guesses, classes: int) -> None:
        self._edges = np.quantile(fitted.by, np.linspace(0, 1, classes + 1)[1:-1])
        self._counts = np.ones((classes, 2 * VALUES - 1))
        np.add.at(self._counts, (self._class(fitted), fitted.pixels - fitted.guess + VALUES - 1), 1)

    def bits(self, held: Guesses) -> NDArray[np.float64]:
        """Bits of each pixel value."""
        total = np.concatenate((np.zeros((len(self._counts), 1)), self._counts.cumsum(1)), 1)
        own, lowest = self._class(held), VALUES - 1 - held.guess  # the place of the residual that gives the value 0
        possible = total[own, lowest + VALUES] - total[own, lowest]
        bits: NDArray[np.float64] = np.log2(possible / self._counts[own, held.pixels + lowest])
        return bits

    def _class(self, guesses: Guesses) -> NDArray[np.int64]:
        return np.searchsorted(self._edges, guesses.by, side="right")


def guesses(task: str, images: Dataset, count: int) -> Guesses:
    """The first crops, and what is guessed of them."""
    raw, given = images.conditioned(range(count), ["low"] if task == "upscaling" else ["hole"])
    pixels = raw.astype(np.int64)
    if task == "upscaling":
        guess = bicubic(given["low"], pixels.shape[2:])
        by, scored = contrast(guess), np.ones(pixels.shape, bool)
    else:
        hole = given["hole"] > 0
        guess, scored = filled(pixels, hole), np.broadcast_to(hole, pixels.shape)
        by = np.broadcast_to(depth(hole), pixels.shape)
    return Guesses(pixels[scored], guess[scored], by[scored], np.nonzero(scored)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("upscaling", "inpainting"))
    parser.add_argument("--crops", type=int, default=4096, help="training crops that the histograms are fitted on")
    args = parser.parse_args()
    splits = hvdsl.open_data(f"vdvae_photos_{args.task}")
    fitted = guesses(args.task, splits.train, args.crops)
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        held = guesses(args.task, part, len(part))
        for classes in (1, CLASSES):
            bits = Histograms(fitted, classes).bits(held)
            sums = np.bincount(held.image, bits), np.bincount(held.image)  # of each image, as evaluation counts them
            error = (sums[0] - bits.mean() * sums[1]).std(ddof=1) / sums[1].mean() / np.sqrt(len(part))
            kind = "one histogram" if classes == 1 else f"{classes} histograms"
            print(f"{args.task}, {name}: {kind}: {bits.mean():.3f} ± {error:.3f} bits/dim")


if __name__ == "__main__":
    main()
