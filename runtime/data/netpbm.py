"""Netpbm's pictures (PGM and PPM) with the numbers in their files: Pillow scales them, and cuts colours to 8 bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
_HEAD = re.compile(rb"P([2356])" + (_GAP + rb"0*(\d{1,9})") * 3 + rb"\s")
_COMMENT = re.compile(rb"#[^\n\r]*")
_LARGEST = (1 << 16) - 1


def read_netpbm(source: Path | bytes) -> tuple[NDArray[Any], int] | None:
    """Return the numbers (H, W, C) of a PGM or PPM file and its largest, as its head says; None for other files.

    Raises:
        ValueError: cut short, or with numbers that its head does not allow.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    head = _HEAD.match(data)
    if head is None:
        return None
    kind, width, height, top = (int(part) for part in head.groups())
    shape = (height, width, 3 if kind in (3, 6) else 1)
    count = int(np.prod(shape, dtype=object))
    if not 0 < top <= _LARGEST:
        raise ValueError(f"its largest number is {top}, not 1 … {_LARGEST}")
    if kind in (2, 3):
        words = _COMMENT.sub(b"", data[head.end() :]).split(None, count)[:count]
        values = np.array([int(word) for word in words], np.int64)
    else:
        wide = ">u2" if top > 255 else "u1"
        held = min(count, (len(data) - head.end()) // np.dtype(wide).itemsize)
        values = np.frombuffer(data, wide, held, head.end())
    if len(values) < count:
        raise ValueError(f"cut short: {len(values):,} numbers of {count:,}")
    if values.min() < 0 or values.max() > top:
        raise ValueError(f"it holds {values.min()} … {values.max()}, and its head says 0 … {top}")
    return values.astype(np.uint16 if top > 255 else np.uint8).reshape(shape), top


def at_full_depth(values: NDArray[Any], top: int) -> NDArray[Any]:
    """Whole numbers 0 … top as the whole range of 8 bits, or of 16 where 8 cannot hold `top`."""
    kind = np.uint8 if top <= 255 else np.uint16
    full = int(np.iinfo(kind).max)
    return values.astype(kind) if top == full else np.rint(values * (full / top)).astype(kind)
