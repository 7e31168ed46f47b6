"""More than 8 bits per colour are kept where a spec takes them, and refused by name where nothing reads them."""

from __future__ import annotations

import io
import struct
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError
from hvdsl.runtime.data.fields import ImageField
from hvdsl.runtime.data.picture import UnreadableError, read_header, read_picture
from hvdsl.runtime.data.preprocess import Preprocess
from hvdsl.runtime.data.stored import header_of, read_image

SIZE = (6, 9)  # height, width
COLOURS = np.random.default_rng(0).integers(0, 1 << 16, (*SIZE, 3), dtype=np.uint16)
OPACITY = np.linspace(1, 65535, 54).astype(np.uint16).reshape(*SIZE, 1)


def pixels(raster: Any, shape: tuple[int, int, int] = (3, *SIZE), **options: Any) -> Any:
    return Preprocess(Data(name="images", shape=shape, **options), training=False)(raster, 0, 0, "x")


def png(values: Any, *before_pixels: tuple[bytes, bytes]) -> bytes:
    """A PNG file of 16 bits a channel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), *before_pixels, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def orientation(tag: int) -> bytes:
    exif = Pillow.Exif()
    exif[274] = tag
    return exif.tobytes().removeprefix(b"Exif\0\0")


def upright(values: Any, tag: int) -> Any:
    """What Pillow makes of a picture with that tag."""
    file = io.BytesIO()
    Pillow.fromarray((values >> 8).astype(np.uint8)).save(file, "PNG", exif=b"Exif\0\0" + orientation(tag))
    return read_picture(file.getvalue()).values


def test_eight_bits_are_the_upper_ones_and_that_is_told() -> None:
    notes: list[str] = []
    preprocess = Preprocess(
        Data(name="images", shape=(3, *SIZE)), training=False, tell=lambda kind, sentence: notes.append(sentence)
    )
    assert np.array_equal(preprocess(read_picture(png(COLOURS)), 0, 0, "a.png").transpose(1, 2, 0), COLOURS >> 8)
    assert notes == ["a.png has more than 8 bits per colour: `bits = 8` takes the upper ones"]


@pytest.mark.parametrize("options", [{"bits": 9}, {"bits": 16}, {"values": "real"}, {"values": "levels", "bits": 16}])
def test_without_the_extra_more_bits_are_an_error_that_names_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=r"^x has more than 8 bits per colour.*`pip install 'hvdsl\[deep\]'`"):
        pixels(read_picture(png(COLOURS)), **options)


def test_png_goes_through_imagecodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.SimpleNamespace(png_decode=lambda data: COLOURS)
    monkeypatch.setitem(sys.modules, "imagecodecs", stand_in)
    raster = read_picture(png(COLOURS))
    for bits in (9, 12, 16):
        assert np.array_equal(pixels(raster, bits=bits).transpose(1, 2, 0), COLOURS >> (16 - bits))
    assert np.array_equal(pixels(raster, values="real").transpose(1, 2, 0), COLOURS.astype(np.float32))
    assert np.array_equal(pixels(raster, values="levels", bits=16).transpose(1, 2, 0), COLOURS)


def test_a_damaged_deep_file_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(data: bytes) -> None:
        raise ValueError("bad CRC")

    monkeypatch.setitem(sys.modules, "imagecodecs", types.SimpleNamespace(png_decode=damaged))
    with pytest.raises(DataError, match=r"^x cannot be read: damaged \(bad CRC\)$"):
        pixels(read_picture(png(COLOURS)), bits=16)


@pytest.mark.parametrize("tag", range(1, 9))
def test_real_png_files_of_any_orientation(tag: int) -> None:
    pytest.importorskip("imagecodecs")
    raster = read_picture(png(COLOURS, (b"eXIf", orientation(tag))))
    rendered = pixels(raster, (3, *raster.values.shape[:2]), bits=16).transpose(1, 2, 0)
    assert np.array_equal((rendered >> 8).astype(np.uint8), upright(COLOURS, tag))


@pytest.mark.parametrize("channels", [2, 4])
def test_real_png_files_with_opacity(channels: int) -> None:
    pytest.importorskip("imagecodecs")
    stored = np.concatenate([COLOURS[:, :, : channels - 1], OPACITY], axis=2)
    rendered = pixels(read_picture(png(stored)), (channels, *SIZE), bits=16, alpha="channel")
    assert np.array_equal(rendered.transpose(1, 2, 0), stored)
    share = OPACITY.astype(float) / 65535
    shown = pixels(read_picture(png(stored)), (channels - 1, *SIZE), bits=16).transpose(1, 2, 0)
    assert np.abs(shown - (stored[:, :, :-1] * share + 65535 * (1 - share))).max() <= 1


def test_a_transparent_colour_of_16_bits() -> None:
    pytest.importorskip("imagecodecs")
    key = struct.pack(">HHH", *COLOURS[2, 3])
    shown = pixels(read_picture(png(COLOURS, (b"tRNS", key))), bits=16).transpose(1, 2, 0)
    assert (shown[2, 3] == 65535).all()
    assert np.array_equal(shown[3:], COLOURS[3:])


@pytest.mark.parametrize("tag", [1, 3, 6])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_real_tiff_files(tmp_path: Path, planes: str, compression: str | None, tag: int) -> None:
    pytest.importorskip("imagecodecs")
    tifffile = pytest.importorskip("tifffile")
    stored = COLOURS if planes == "contig" else COLOURS.transpose(2, 0, 1)
    options = {"planarconfig": planes, "compression": compression, "extratags": [(274, 3, 1, tag, True)]}
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", **options)
    raster, header = read_image(tmp_path / "x.tif"), header_of(tmp_path / "x.tif")
    expected = upright(COLOURS, tag)
    assert (header.height, header.width, header.channels, header.alpha) == (*expected.shape, False)
    rendered = pixels(raster, (3, *expected.shape[:2]), bits=16).transpose(1, 2, 0)
    assert np.array_equal((rendered >> 8).astype(np.uint8), expected)
    assert np.array_equal(pixels(raster, (3, *expected.shape[:2])).transpose(1, 2, 0), expected)


@pytest.mark.parametrize("associated", [False, True])
def test_real_tiff_files_with_opacity(tmp_path: Path, associated: bool) -> None:
    pytest.importorskip("imagecodecs")
    tifffile = pytest.importorskip("tifffile")
    share = OPACITY / 65535
    colours = np.rint(COLOURS * share).astype(np.uint16) if associated else COLOURS
    stored = np.concatenate([colours, OPACITY], axis=2)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", extrasamples=[1 if associated else 2])
    shown = pixels(read_image(tmp_path / "x.tif"), bits=16).transpose(1, 2, 0)
    assert np.abs(shown - (COLOURS * share + 65535 * (1 - share))).max() <= 2


def test_planes_of_16_bits_are_never_read_as_planes_of_8(tmp_path: Path) -> None:
    """Pillow opens such files, and takes one half of each plane for the other half's neighbours."""
    planes = COLOURS.transpose(2, 0, 1).astype("<u2")
    entries = [
        (256, 3, 1, 9),
        (257, 3, 1, 6),
        (258, 3, 3, 122),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3, 128),
        (277, 3, 1, 3),
        (279, 4, 3, 140),
        (284, 3, 1, 2),
    ]
    head = (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    )
    head = head.ljust(122, b"\0") + struct.pack("<HHH", 16, 16, 16)
    head += struct.pack("<III", *(152 + 108 * i for i in range(3))) + struct.pack("<III", 108, 108, 108)
    data = head.ljust(152, b"\0") + planes.tobytes()
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(UnreadableError, match="planes of 16 bits"):
        read_picture(data)
    with pytest.raises(UnreadableError, match="planes of 16 bits"):
        read_header(data)


def numbers_tiff(values: Any, sample_format: int) -> bytes:
    """A grey TIFF file of any numbers."""
    height, width = values.shape
    bits = 8 * values.dtype.itemsize
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 134), (277, 1), (278, height)]
    entries += [(279, values.nbytes)]
    tags = [struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in entries]
    tags += [struct.pack("<HHII", 339, 3, 1, sample_format)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4)
    return head + values.tobytes()


@pytest.mark.parametrize(("kind", "sample_format"), [("int8", 2), ("uint32", 1), ("int32", 2), ("int16", 2)])
def test_numbers_of_tiff_files_keep_their_sign(kind: str, sample_format: int) -> None:
    low = 0 if kind == "uint32" else np.iinfo(kind).min
    values = np.linspace(low, np.iinfo(kind).max, 54).astype(np.int64).astype(kind).reshape(SIZE)
    read = read_picture(numbers_tiff(values, sample_format)).values
    assert np.array_equal(read[:, :, 0].astype(np.int64), values.astype(np.int64))


def test_conditions_in_deep_files_are_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", types.SimpleNamespace(png_decode=lambda data: COLOURS))
    (tmp_path / "a.png").write_bytes(png(COLOURS))
    value = ImageField(tmp_path).value(0, "a.png")
    assert np.array_equal(np.asarray(value), COLOURS)
