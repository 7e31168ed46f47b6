"""Whether a MATLAB file is what its own tags say: scipy, which reads it, ends the process at some that are not."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from hvdsl.runtime.data.errors import DataError

_HEADER = 128  # bytes before the first element; the version and the order of bytes are the last four
_HEAD = 4096  # bytes of a compressed variable that have to hold everything before its numbers
_COMPRESSED, _MATRIX, _NAME, _SIGNED, _FLAGS = 15, 14, 1, 5, 6  # types of elements
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of a number of each type
_NUMBERS = range(6, 16)  # classes of arrays that hold numbers
_COMPLEX, _MOST_AXES = 0x0800, 32


def check_mat5(path: Path, wanted: Collection[str]) -> None:
    """Check the tags of every variable, and of the wanted ones that they are arrays of numbers of the size they state.

    Raises:
        DataError: the file is damaged, of another version, or a wanted variable is no array of numbers.
    """
    try:
        with path.open("rb") as file:
            head, length = file.read(_HEADER), path.stat().st_size
            order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
            if order is None:
                raise DataError(f"{path} is no MATLAB file of version 5: save it with `save(…, '-v7')`, or as .npz")
            if struct.unpack(f"{order}H", head[124:126])[0] == 0x0200:
                raise DataError(f"{path} is a MATLAB file of version 7.3: save it with `save(…, '-v7')`, or as .npz")
            for variable, size in _variables(file, order, length):
                _check_variable(variable, size, order, wanted)
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from error


def _variables(file: BinaryIO, order: str, length: int) -> Iterator[tuple[bytes, int]]:
    """The start of every variable, behind its tag, and how many bytes it has."""
    place = _HEADER
    while place < length:
        file.seek(place)
        kind, size = struct.unpack(f"{order}II", file.read(8))
        if place + 8 + size > length:
            raise ValueError(f"it is cut short, or damaged, at byte {place}")
        if kind == _COMPRESSED:
            start = zlib.decompressobj().decompress(file.read(min(size, _HEAD)), _HEAD)
            kind, inner = struct.unpack_from(f"{order}II", start)
            yield start[8:], inner
        else:
            yield file.read(min(size, _HEAD)), size
        if kind != _MATRIX:
            raise ValueError(f"it is damaged at byte {place}")
        place += 8 + size


def _check_variable(start: bytes, size: int, order: str, wanted: Collection[str]) -> None:
    kind, flags, place = _element(start, 0, order)
    axes_kind, axes, place = _element(start, place, order)
    name_kind, name, place = _element(start, place, order)
    axes_count = len(axes) // 4
    if (kind, axes_kind, name_kind) != (_FLAGS, _SIGNED, _NAME) or len(flags) != 8 or len(axes) % 4:
        raise ValueError("the head of a variable is damaged")
    shape = struct.unpack(f"{order}{axes_count}i", axes)
    if not 2 <= axes_count <= _MOST_AXES or min(shape) < 0:
        raise ValueError("the shape of a variable is damaged")
    if (called := name.decode("latin-1")) not in wanted:
        return
    flag = struct.unpack(f"{order}I", flags[:4])[0]
    if flag & 0xFF not in _NUMBERS or flag & _COMPLEX:
        raise ValueError(f"`{called}` is no array of real numbers")
    kind, count, place = _tag(start, place, order)
    if kind not in _SIZES or count != math.prod(shape) * _SIZES[kind] or place + count > size + 7:
        raise ValueError(f"`{called}` has not as many numbers as its shape {shape} says")


def _tag(data: bytes, place: int, order: str) -> tuple[int, int, int]:
    """Type, bytes and place of what an element holds; up to four bytes stand in the tag itself."""
    kind, count = struct.unpack_from(f"{order}II", data, place)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, place + 4
    return kind, count, place + 8


def _element(data: bytes, place: int, order: str) -> tuple[int, bytes, int]:
    """Type and content of an element, and where the next begins."""
    kind, count, start = _tag(data, place, order)
    if start + count > len(data) or (start == place + 4 and count > 4):
        raise ValueError("the head of a variable is damaged")
    end = place + 8 if start == place + 4 else start + -(-count // 8) * 8
    return kind, data[start : start + count], end
