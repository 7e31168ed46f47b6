"""MNIST, and data in its form: IDX files, compressed or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.arrays import Arrays
from hvdsl.runtime.data.errors import DataError

_LARGEST = 1 << 31  # bytes of a file: forty times MNIST
_BYTES = 0x08  # the type code of unsigned bytes
_PARTS = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an IDX file of bytes: big-endian sizes, then the values in row-major order.

    Raises:
        DataError: not readable, of another type than unsigned bytes, or shorter or longer than its sizes say.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _BYTES:
                raise DataError(f"{path} is not an IDX file of bytes: download it again")
            sizes = file.read(4 * head[3])
            shape = struct.unpack(f">{head[3]}I", sizes) if len(sizes) == 4 * head[3] else ()
            count = math.prod(shape)
            if count > _LARGEST:
                raise DataError(f"{path} says that it holds {shape} bytes, which is not believed: download it again")
            raw = file.read(count + 1)  # of a compressed file no more is unpacked than its sizes say
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not shape or len(raw) != count:
        raise DataError(f"{path} holds {len(raw)} bytes, not what its sizes {shape} say: download it again")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def read_mnist(root: Path) -> dict[str, Arrays] | None:
    """Return the training and test images of a folder with MNIST's four files (or two, without labels), else None.

    Raises:
        DataError: a file is damaged, or the test images are missing.
    """
    folders = (root, root / "raw", root / "MNIST" / "raw")
    folder = next((f for f in folders if _file(f, "train-images-idx3-ubyte") is not None), None)
    if folder is None:
        return None
    found = {}
    for split, part in _PARTS.items():
        images, labels = _file(folder, f"{part}-images-idx3-ubyte"), _file(folder, f"{part}-labels-idx1-ubyte")
        if images is None:
            raise DataError(f"{folder} has no {part}-images-idx3-ubyte: put MNIST's test files beside the others")
        found[split] = Arrays(
            str(images), read_idx(images), None if labels is None else read_idx(labels).astype(np.int64)
        )
    return found


def _file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
