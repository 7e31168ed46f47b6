"""How many bits the colours of a picture file have, as its head says; Pillow tells of few formats."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image as Pillow

SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
_BITS_PER_SAMPLE = 258  # TIFF's tag
_CODESTREAM = b"\xff\x4f\xff\x51"  # how JPEG 2000 begins inside its boxes
_COMPONENTS = 40  # where it says their number, of which each has three bytes from there on
_META = 1 << 20  # bytes of AVIF's description of its pictures that are looked at
_AV1 = b"av1C\x81"  # the head of a picture in AVIF, version 1
_HIGH, _TWELVE = 0x40, 0x20  # its flags: more than 8 bits, 12 of them
_BOXES = 1_000
_HEAD = 1 << 18  # bytes of a JPEG file in which its frame is looked for
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers that say bits and size
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)


def tiff_bits(picture: Pillow.Image) -> int:
    """Bits per colour of a TIFF file, as its head says; 0 of others."""
    return max(map(int, dict(getattr(picture, "tag_v2", {})).get(_BITS_PER_SAMPLE, (0,))))


def raw_modes(picture: Pillow.Image) -> list[str]:
    """How the pixels stand in the file, by Pillow's names."""
    tiles = getattr(picture, "tile", None) or ()
    raw = [part for tile in tiles for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    return [part for part in raw if isinstance(part, str)]


def stored_bits(picture: Pillow.Image, source: Path | bytes) -> int:
    """Return the bits per colour in a file that Pillow has opened; negative where its numbers are signed; 8 or 16 where
    the numbers that Pillow gives are the file's."""
    if picture.format == "JPEG2000":
        return _jpeg2000_bits(source)
    if picture.format == "AVIF":
        return _avif_bits(source)
    if picture.mode in (*SIXTEEN, "I", "F"):
        return 16
    return 16 if tiff_bits(picture) > 8 or any(";16" in part for part in raw_modes(picture)) else 8


def _jpeg2000_bits(source: Path | bytes) -> int:
    with _opened(source) as file:
        start = file.read(4)
        file.seek(0)
        if start != _CODESTREAM:
            next((None for kind, _ in _boxes(file) if kind == b"jp2c"), None)
        head = file.read(_COMPONENTS + 2)
        count = struct.unpack_from(">H", head, _COMPONENTS)[0] if head[:4] == _CODESTREAM else 0
        sizes = file.read(3 * count)[::3]  # one less than the bits, and a flag for signed numbers
    if not sizes:
        return 8
    bits = max((size & 0x7F) + 1 for size in sizes)
    return -bits if any(size & 0x80 for size in sizes) else bits


def _avif_bits(source: Path | bytes) -> int:
    with _opened(source) as file:
        size = next((size for kind, size in _boxes(file) if kind == b"meta"), 0)
        heads = file.read(min(size, _META)).split(_AV1)[1:]
    flags = [head[1] for head in heads if len(head) > 1]
    if not any(flag & _HIGH for flag in flags):
        return 8
    return 12 if any(flag & _TWELVE for flag in flags) else 10


def jpeg_kind(source: Path | bytes) -> str | None:
    """Say of a JPEG file that Pillow does not open what it is: of 12 bits, or lossless; None of others."""
    with _opened(source) as file:
        head = file.read(_HEAD)
    place = 2
    while head[:2] == b"\xff\xd8" and head[place : place + 1] == b"\xff" and place + 5 <= len(head):
        marker, bits = head[place + 1], head[place + 4]
        if marker in _FRAMES:
            lossless = " and lossless" if marker in _LOSSLESS else ""
            return f"a JPEG of {bits} bits{lossless}, which is not read: convert it to PNG or TIFF"
        place += 2 + int.from_bytes(head[place + 2 : place + 4])
    return None


def _opened(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and size of each box of an ISO media file; the file stands at its content meanwhile."""
    for _ in range(_BOXES):
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head)
        inside = file.tell()
        if size == 1:
            size, inside = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0] - 8, inside + 8
        yield kind, max(0, size - 8) if size else _META
        if size < 8:  # to the end of the file, or damaged
            return
        file.seek(inside + size - 8)
