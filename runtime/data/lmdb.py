"""LMDB files as the NVAE release writes them: images by their number, as raw bytes or as the original file."""

from __future__ import annotations

import math
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.extras import optional
from hvdsl.runtime.data.picture import Raster, UnreadableError, read_header, read_picture
from hvdsl.runtime.data.preprocess import Preprocess

_CHECKED, _THREADS = 20_000, 8
_MAGIC = 0xBEEFC0DE
_META = struct.Struct("<II")  # magic, version, after a page's header of 16 bytes
_LAST_PAGE = 16 + 8 + 8 + 8 + 2 * 48  # of a meta page: header, magic, address, size of the map, two tables
# How encoded pictures begin.
_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")


class Lmdb:
    """Images of one LMDB environment, under the keys `0`, `1`, ….

    A value that begins as a picture file does is one; any other is a square RGB image, `(side, side, 3)` bytes whose
    side its length gives. How many there are is asked of the file.
    """

    def __init__(self, path: Path) -> None:
        lmdb = optional("lmdb", "lmdb", f"reading {path}")
        _check_length(path / "data.mdb" if path.is_dir() else path)
        try:
            self._environment: Any = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, subdir=path.is_dir(), max_readers=1
            )
            self._count = int(self._environment.stat()["entries"])
        except lmdb.Error as error:
            raise DataError(f"{path} cannot be read as an LMDB file: {error}") from error
        self._path, self._error = path, lmdb.Error
        if self._count == 0:
            raise DataError(f"{path} holds no images")

    def __len__(self) -> int:
        return self._count

    def image(self, index: int, epoch: int) -> Raster:
        value = self._value(index)
        if is_encoded(value):
            try:
                return read_picture(value)
            except UnreadableError as error:
                raise DataError(f"image {index} of {self._path} cannot be decoded: {error}") from error
        side = math.isqrt(len(value) // 3)
        if side == 0 or 3 * side * side != len(value):
            raise DataError(
                f"image {index} of {self._path} is no picture file, and its {len(value):,} bytes are no square of RGB"
            )
        return Raster(np.frombuffer(value, np.uint8).reshape(side, side, 3))

    def _value(self, index: int) -> bytes:
        try:
            with self._environment.begin() as transaction:
                value = transaction.get(str(index).encode())
        except self._error as error:
            raise DataError(f"{self._path} is damaged at image {index}: {error}") from error
        if value is None:
            raise DataError(f"{self._path} has no image {index} of {self._count}: its keys should count from 0")
        return bytes(value)

    def check(self, settings: Data) -> None:
        """Refuse, by the heads of up to 20,000 images evenly spread, what cannot fit the spec.

        Raises:
            DataError: it names the first image.
        """
        preprocess = Preprocess(settings, training=False)
        indices = np.unique(np.linspace(0, len(self) - 1, min(_CHECKED, len(self))).astype(int)).tolist()
        with ThreadPoolExecutor(_THREADS) as pool:
            for index, (height, width) in zip(indices, pool.map(self._size, indices), strict=True):
                if preprocess.size_of(height, width) != settings.shape[1:]:
                    wanted = "x".join(map(str, settings.shape[1:]))
                    raise DataError(
                        f"{self.name(index)} is {height}x{width}, the spec's data section says {wanted}: "
                        f"change `shape`, or set `resize = {wanted}` (or `crop`, `pad`) in `data`"
                    )

    def _size(self, index: int) -> tuple[int, int]:
        value = self._value(index)
        if not is_encoded(value):
            side = math.isqrt(len(value) // 3)
            return side, side
        try:
            header = read_header(value)
        except UnreadableError as error:
            raise DataError(f"image {index} of {self._path} cannot be decoded: {error}") from error
        return header.height, header.width

    def label(self, index: int) -> int | None:
        return None

    def name(self, index: int) -> str:
        return f"image {index} of {self._path}"


def is_encoded(value: bytes) -> bool:
    """Whether bytes begin as a picture file does, whatever their length."""
    if value[:4] == b"RIFF":
        return value[8:12] == b"WEBP"
    if value[:2] == b"BM":  # two bytes that pixels may have, too: the header repeats the length
        return len(value) > 14 and struct.unpack_from("<I", value, 2)[0] == len(value)
    if value[:1] == b"P" and value[1:2] in b"123456":
        return value[2:3].isspace()
    return value[4:12] in (b"ftypavif", b"ftypavis", b"jP  \r\n\x87\n") or value.startswith(_STARTS[:6])


def _check_length(file: Path) -> None:
    """Refuse a file that is shorter than its own head says: reading behind its end would end the process.

    Raises:
        DataError: it is cut short, or no LMDB file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(1 << 17)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(head) < _LAST_PAGE + 8 or _META.unpack_from(head, 16)[0] != _MAGIC:
        raise DataError(f"{file} cannot be read as an LMDB file: it does not begin as one")
    page = struct.unpack_from("<I", head, 16 + 24)[0]
    if page < 512 or page > 1 << 16 or page & (page - 1) or len(head) < page + _LAST_PAGE + 8:
        raise DataError(f"{file} cannot be read as an LMDB file: its head is damaged")
    last = max(struct.unpack_from("<Q", head, start + _LAST_PAGE)[0] for start in (0, page))
    if size < (last + 1) * page:
        raise DataError(
            f"{file} is cut short: it has {size:,} bytes, its head says {(last + 1) * page:,}; copy it again"
        )
