"""CIFAR-10 as its authors publish it: the binary version, and the Python version without executing its pickles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.arrays import Arrays
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.plain_pickle import RefusedError, read_plain

Batch: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (N, 3072) and labels (N,)

_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue planes


def read_cifar10(root: Path) -> tuple[Arrays, Arrays]:
    """Return the 50,000 training and 10,000 test images.

    `root` is the unpacked folder (`cifar-10-batches-bin` or `cifar-10-batches-py`) or the one that holds it.

    Raises:
        DataError: a batch is missing, or is not what that release contains.
    """
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
        if (folder / "data_batch_1.bin").is_file():
            return _join(folder, _TRAIN, _binary, ".bin"), _join(folder, ("test_batch",), _binary, ".bin")
        if (folder / "data_batch_1").is_file():
            return _join(folder, _TRAIN, _python, ""), _join(folder, ("test_batch",), _python, "")
    raise DataError(
        f"{root} holds neither cifar-10-batches-bin nor cifar-10-batches-py: unpack the CIFAR-10 archive there"
    )


def _join(folder: Path, names: tuple[str, ...], read: Callable[[Path], Batch], suffix: str) -> Arrays:
    parts = []
    for name in names:
        path = folder / (name + suffix)
        try:
            images, labels = read(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if len(images) == 0 or len(images) != len(labels):
            raise DataError(f"{path} is not a CIFAR-10 batch: {len(images)} images and {len(labels)} labels")
        parts.append((images.reshape(-1, 3, 32, 32), labels))
    return Arrays(str(folder), np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _binary(path: Path) -> Batch:
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    if raw.size % _RECORD:
        raise DataError(
            f"{path} is not a CIFAR-10 batch: {raw.size} bytes, not a multiple of {_RECORD}; unpack the archive again"
        )
    records = raw.reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _python(path: Path) -> Batch:
    try:
        stored = read_plain(path.read_bytes())
    except RefusedError as error:
        raise DataError(f"{path} is not a CIFAR-10 batch: it contains {error}, which is not read") from error
    match stored:
        case {"data": np.ndarray() as images, "labels": list(labels)} if images.ndim == 2 and images.shape[1] == 3072:
            if all(isinstance(label, int) and 0 <= label < 10 for label in labels) and images.dtype == np.uint8:
                return images, np.asarray(labels, np.int64)
    raise DataError(f"{path} is not a CIFAR-10 batch: it should hold `data` (N, 3072) bytes and `labels` 0 to 9")
