"""MNIST, and data in its form: IDX files, compressed or not."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.arrays import Arrays
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.names import ALL, TEST, TRAIN

_LARGEST = 1 << 31  # bytes of a file: forty times MNIST
_BYTES = 0x08  # the type code of unsigned bytes
_PARTS = {"train": TRAIN, "t10k": TEST, "test": TEST}
_PUBLISHED = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?")


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

    Whatever stands before `train-images-idx3-ubyte` (EMNIST's `emnist-letters-`) has to be the same before all four.

    Raises:
        DataError: a file is damaged, the test images are missing, or there are files of several sets.
    """
    for folder in (root, root / "raw", root / "MNIST" / "raw"):
        images = {(name.set, name.part): path for path, name in _named(folder) if name.holds == "images"}
        sets = sorted({name for name, part in images if part == TRAIN})
        if len(sets) > 1:
            raise DataError(f"{folder} holds files of several sets, {', '.join(sets)}: keep those of one of them")
        if sets and (sets[0], TEST) not in images:
            missing = f"{sets[0]}t10k-images-idx3-ubyte"
            raise DataError(f"{folder} has no {missing}: put MNIST's test files beside the others")
        if sets:
            return {part: _with_labels(images[sets[0], part]) for part in (TRAIN, TEST)}
    return None


def read_idx_file(path: Path) -> dict[str, Arrays] | None:
    """Return the images of one IDX file under its published name, with the labels beside it; None for other names."""
    name = _name(path)
    return None if name is None or name.holds != "images" else {ALL: _with_labels(path)}


class _Name(NamedTuple):
    """What the published name of an IDX file says: what stands before the part, the part, and `images` or `labels`."""

    set: str
    part: str
    holds: str


def _name(path: Path) -> _Name | None:
    match = _PUBLISHED.fullmatch(path.name)
    return None if match is None else _Name(match[1], _PARTS[match[2]], match[3])


def _named(folder: Path) -> list[tuple[Path, _Name]]:
    """The files of a folder under such names, uncompressed ones last: they are taken where both are there."""
    if not folder.is_dir():
        return []
    files = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: (p.suffix != ".gz", p.name))
    return [(path, name) for path in files if (name := _name(path)) is not None]


def _with_labels(images: Path) -> Arrays:
    own = _name(images)
    wanted = own and own._replace(holds="labels")
    labels = [path for path, name in _named(images.parent) if name == wanted]
    return Arrays(str(images), read_idx(images), read_idx(labels[-1]).astype(np.int64) if labels else None)
