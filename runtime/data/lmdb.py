"""LMDB files as the NVAE release writes them: images by their number, as raw bytes or as the original file."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from hvdsl.runtime.data.dataset import DataError, Image
from hvdsl.runtime.data.extras import optional


class Lmdb:
    """Images of one LMDB environment, under the keys `0`, `1`, ….

    A value is a square RGB image, `(side, side, 3)` bytes whose side its length gives, or an encoded image file. How
    many there are is asked of the file.
    """

    def __init__(self, path: Path) -> None:
        lmdb = optional("lmdb", "lmdb", f"reading {path}")
        try:
            self._environment: Any = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, subdir=path.is_dir(), max_readers=1
            )
        except lmdb.Error as error:
            raise DataError(f"{path} cannot be read as an LMDB file: {error}") from error
        self._path = path
        self._count = int(self._environment.stat()["entries"])
        if self._count == 0:
            raise DataError(f"{path} holds no images")

    def __len__(self) -> int:
        return self._count

    def image(self, index: int, epoch: int) -> Image:
        with self._environment.begin() as transaction:
            value = transaction.get(str(index).encode())
        if value is None:
            raise DataError(f"{self._path} has no image {index} of {self._count}: its keys should count from 0")
        side = math.isqrt(len(value) // 3)
        if 3 * side * side == len(value):
            return np.frombuffer(value, np.uint8).reshape(side, side, 3)
        try:
            with Pillow.open(io.BytesIO(value)) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
            raise DataError(f"image {index} of {self._path} cannot be decoded: {error}") from error

    def label(self, index: int) -> int | None:
        return None
