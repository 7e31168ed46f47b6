"""Raw images, and the data set that a model sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.data.preprocess import Preprocess, random

Image = NDArray[np.uint8]  # (H, W, C), values 0 … 255
Batch = NDArray[np.uint16]  # (N, C, H, W), values 0 … 2^bits − 1


class DataError(HvdslError):
    """Data that is missing, damaged or not what the spec says."""


class Images(Protocol):
    """Images as they are stored."""

    def __len__(self) -> int: ...

    def image(self, index: int, epoch: int) -> Image:
        """Return image `index`, (H, W, C). Sources that crop at random depend on the epoch, files do not."""
        ...

    def label(self, index: int) -> int | None:
        """Return the class of image `index`, if the source has classes."""
        ...


class Subset:
    """Some of the images of another source, in a given order."""

    def __init__(self, images: Images, indices: NDArray[np.int64]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int, epoch: int) -> Image:
        return self._images.image(int(self._indices[index]), epoch)

    def label(self, index: int) -> int | None:
        return self._images.label(int(self._indices[index]))


class Dataset:
    """Images as the spec's `data` section wants them.

    Every value is a function of (split seed, epoch, index): a loader has no state, and a resumed run sees what an
    uninterrupted one would have seen.
    """

    def __init__(self, name: str, images: Images, settings: Data, *, training: bool) -> None:
        self.name = name
        self.shape = settings.shape
        self.bits = settings.bits
        self._images, self._settings = images, settings
        self._preprocess = Preprocess(settings, training=training)
        self._training = training

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices: Sequence[int], epoch: int = 0) -> Batch:
        """Return raw pixel values (N, C, H, W), 0 … 2^bits − 1.

        Raises:
            DataError: an image cannot be read, or has not the shape that the spec states.
        """
        return np.stack([self._one(int(i), epoch if self._training else 0) for i in indices])

    def unaugmented(self) -> Dataset:
        """Return the same images as evaluation would see them: not flipped, and where they are cropped at random, as
        in epoch 0."""
        return Dataset(self.name, self._images, self._settings, training=False)

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        """Return the classes (N,), or None where one of the images has none.

        Raises:
            DataError: a class is not one of the spec's `classes`.
        """
        found = [self._images.label(int(i)) for i in indices]
        known = [label for label in found if label is not None]
        if len(known) < len(found):
            return None
        classes = self._settings.classes
        wrong = next((label for label in known if label < 0 or (classes is not None and label >= classes)), None)
        if wrong is not None:
            raise DataError(f"an image of {self.name} is of class {wrong}, and `data.classes` is {classes}")
        return np.asarray(known, np.int64)

    def _one(self, index: int, epoch: int) -> NDArray[np.uint16]:
        pixels = self._preprocess(self._images.image(index, epoch), epoch, index)
        if pixels.shape != self.shape:
            (c, h, w), (want_c, want_h, want_w) = pixels.shape, self.shape
            raise DataError(
                f"image {index} of {self.name} is {c}x{h}x{w}, the spec's data section says "
                f"{want_c}x{want_h}x{want_w}: "
                f"change `shape`, or set `resize = {want_h}x{want_w}` (or `crop`, `pad`) in `data`"
            )
        return pixels


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set. `validation` is what training watches, `test` what a paper reports."""

    train: Dataset
    validation: Dataset
    test: Dataset


def holdout_split(count: int, holdout: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (kept, held out) indices: `holdout` is a count, or a fraction when it is below 1. Deterministic in `seed`.

    Raises:
        DataError: nothing would be left on one side.
    """
    held = round(holdout * count) if 0 < holdout < 1 else int(holdout)
    if not 0 < held < count:
        raise DataError(
            f"`holdout` takes {held} of {count} images: give a count or fraction that leaves some on both sides"
        )
    order = random(seed).permutation(count)
    return np.sort(order[:-held]), np.sort(order[-held:])
