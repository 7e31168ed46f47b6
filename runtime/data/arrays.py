"""Images in one `.npy` or `.npz` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.dataset import DataError, Image

_LABELS = ("labels", "y")


class Arrays:
    """Bytes (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels. `.npy` files are memory-mapped."""

    def __init__(self, name: str, images: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DataError(
                f"{name} holds {images.dtype} of shape {images.shape}: images are stored as uint8, "
                "(N, H, W), (N, H, W, C) or (N, C, H, W)"
            )
        if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] not in (1, 3):
            raise DataError(f"{name} has shape {images.shape}: neither the second nor the last axis is 1 or 3 channels")
        if labels is not None and labels.shape != (len(images),):
            raise DataError(f"{name} has {len(images)} images but labels of shape {labels.shape}")
        self._images, self._labels = images, labels
        self._planar = images.ndim == 4 and images.shape[3] not in (1, 3)

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int, epoch: int) -> Image:
        image = np.asarray(self._images[index])
        if image.ndim == 2:
            return image[:, :, None]
        return image.transpose(1, 2, 0) if self._planar else image

    def label(self, index: int) -> int | None:
        return None if self._labels is None else int(self._labels[index])


def read_arrays(path: Path) -> dict[str, Arrays]:
    """Return the arrays of a file by the name of their split (`train`, `validation`, `test`; `all` for a nameless one).

    An `.npz` may hold `train`, `valid`/`validation`/`val`, `test`, each with an optional `<name>_labels`; or one array
    (any name) with optional `labels`.

    Raises:
        DataError: not readable, not images, or an object array (which would need a pickle).
    """
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"all": Arrays(str(path), loaded)}
        with loaded:
            stored = {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path} cannot be read as an array file: {error}") from error
    return _splits(path, stored)


def _splits(path: Path, stored: dict[str, NDArray[Any]]) -> dict[str, Arrays]:
    spelled = {
        "train": "train",
        "valid": "validation",
        "val": "validation",
        "validation": "validation",
        "test": "test",
    }
    found = {
        split: Arrays(f"{path}[{key}]", stored[key], _integers(path, stored.get(f"{key}_labels")))
        for key, split in spelled.items()
        if key in stored
    }
    if found:
        return found
    images = [key for key in stored if key not in _LABELS]
    if len(images) != 1:
        raise DataError(
            f"{path} holds {', '.join(sorted(stored)) or 'nothing'}: give one array of images (with `labels` if there "
            "are classes), or arrays named train, validation and test"
        )
    labels = next((stored[key] for key in _LABELS if key in stored), None)
    return {"all": Arrays(str(path), stored[images[0]], _integers(path, labels))}


def _integers(path: Path, labels: NDArray[Any] | None) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "iu":
        raise DataError(f"the labels in {path} are {labels.dtype}: classes are whole numbers from 0")
    return labels.astype(np.int64)
