"""Downsampled ImageNet as its makers publish it (Chrabaszcz et al. 2017): ten `.npz` batches and one to validate."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.arrays import read_npz
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.names import TEST, TRAIN
from hvdsl.runtime.data.picture import Raster

_BATCHES = 10


class Batches:
    """Images of several files, each (N, 3 · side · side) bytes, the planes of an image one after the other."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._images, self._labels = zip(*(_read(path) for path in paths), strict=True)
        self._ends = np.cumsum([len(images) for images in self._images])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def image(self, index: int, epoch: int) -> Raster:
        file, row = self._place(index)
        flat = np.asarray(self._images[file][row])
        side = math.isqrt(flat.size // 3)
        return Raster(flat.reshape(3, side, side).transpose(1, 2, 0))

    def label(self, index: int) -> int | None:
        file, row = self._place(index)
        return int(self._labels[file][row]) - 1  # the files count classes from 1

    def name(self, index: int) -> str:
        file, row = self._place(index)
        return f"image {row} of {self._paths[file].name}"

    def _place(self, index: int) -> tuple[int, int]:
        file = int(np.searchsorted(self._ends, index, side="right"))
        return file, index - (int(self._ends[file - 1]) if file else 0)


def read_imagenet(root: Path) -> dict[str, Batches] | None:
    """Return the training and the validation images (which papers report as test) of a folder with
    `train_data_batch_1.npz` to `…_10.npz` and `val_data.npz`, or None if they are not there.

    Raises:
        DataError: some are missing or damaged.
    """
    names = [root / f"train_data_batch_{i}.npz" for i in range(1, _BATCHES + 1)]
    held = root / "val_data.npz"
    there = [path for path in (*names, held) if path.is_file()]
    if not there:
        return None
    missing = [path.name for path in (*names, held) if path not in there]
    if missing:
        raise DataError(f"{root} has {there[0].name} but not {', '.join(missing)}: unpack all eleven files there")
    return {TRAIN: Batches(names), TEST: Batches([held])}


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    stored = read_npz(path)
    images, labels = stored.get("data"), stored.get("labels")
    square = images is not None and images.ndim == 2 and 3 * math.isqrt(images.shape[1] // 3) ** 2 == images.shape[1]
    if images is None or labels is None or not square or images.dtype != np.uint8 or labels.shape != (len(images),):
        raise DataError(
            f"{path} is not a batch of downsampled ImageNet: it should hold `data` (N, 3072) and `labels` (N,)"
        )
    return images, labels.astype(np.int64)
