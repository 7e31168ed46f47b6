"""PNM, JPEG 2000 and AVIF files keep all bits of their colours, or the line to write is said."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError
from hvdsl.runtime.data.fields import ImageField
from hvdsl.runtime.data.picture import UnreadableError, read_picture
from hvdsl.runtime.data.preprocess import Preprocess
from hvdsl.runtime.data.survey import survey

SIZE = (6, 9)  # height, width
RANDOM = np.random.default_rng(0).integers(0, 1 << 16, (*SIZE, 4), dtype=np.uint16)
# 2x2 colours k * 93 for k = 0 … 11, in 10 bits as AVIF, and in 12 as a bare codestream of JPEG 2000; the first channel
# of these in a JP2 file; and that less 400, signed.
COLOURS = np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 93
AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQ"
    "AAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAUwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAA"
    "AEtpcGNvAAAAFGlzcGUAAAAAAAAAAgAAAAIAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAAgAAAABdpcG1hAAAAAA"
    "AAAAEAAQQBAoMEAAAAW21kYXQSAAoHOAA+cCAgCTJGEAAA/OYaXLuhGaQShZqub5fh+84nVhoAJn/6JIfs9zi/7rPWqxgNew+GyhwbHrD3ksuYAsmq"
    "PwpsRhH0p9tGnGEfxPDT4A=="
)
JPEG_2000 = base64.b64decode(
    "/0//UQAvAAAAAAACAAAAAgAAAAAAAAAAAAAAAgAAAAIAAAAAAAAAAAADCwEBCwEBCwEB/1IADAAAAAEBAAQEAAH/XAAEQGD/ZAAlAAFDcmVhdGVkIG"
    "J5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAoAAH/k8/kHAh9YqkGDtTA+0EAAdT7Z8D7QQAIjQ9n/9k="
)
GREY_JPEG_2000 = base64.b64decode(
    "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAAAgAAAAIAAQsHAAAAAAAPY29scgEAAAAAABEAAACLanAyY/"
    "9P/1EAKQAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAAQsBAf9SAAwAAAABAAAEBAAB/1wABEBg/2QAJQABQ3JlYXRlZCBieSBPcGVu"
    "SlBFRyB2ZXJzaW9uIDIuNS40/5AACgAAAAAAGQAB/5Pf4CAHgW37s1f+t//Z"
)
SIGNED_JPEG_2000 = base64.b64decode(
    "/0//UQApAAAAAAACAAAAAgAAAAAAAAAAAAAAAgAAAAIAAAAAAAAAAAABiwEB/1IADAAAAAEAAAQEAAH/XAAEQGD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW"
    "5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAXAAH/k8PzBgbD9ajNaP/Z"
)


def pixels(source: bytes | Path, channels: int = 3, notes: list[str] | None = None, **options: Any) -> Any:
    """(H, W, C) as a spec with these settings sees it."""
    raster = read_picture(source)
    data = Data(name="images", shape=(channels, *raster.values.shape[:2]), **options)
    tell = (lambda kind, sentence: notes.append(sentence)) if notes is not None else (lambda kind, sentence: None)
    return Preprocess(data, training=False, tell=tell)(raster, 0, 0, "x").transpose(1, 2, 0)


def netpbm(values: Any, top: int, *, plain: bool = False) -> bytes:
    kind = {1: 5, 3: 6}[values.shape[2]] - 3 * plain
    head = f"P{kind}\n# of nothing\n{values.shape[1]} {values.shape[0]}\n{top}\n".encode()
    if plain:
        return head + " ".join(map(str, values.reshape(-1).tolist())).encode()
    return head + values.astype(">u2" if top > 255 else "u1").tobytes()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [3, 8, 9, 12, 16])
def test_portable_pictures_of_any_depth(bits: int, channels: int, plain: bool) -> None:
    stored = RANDOM[:, :, :channels] >> (16 - bits)
    file = netpbm(stored, (1 << bits) - 1, plain=plain)
    assert np.array_equal(pixels(file, channels, values="levels", bits=bits), stored)
    assert np.array_equal(pixels(file, channels, values="real"), stored.astype(np.float32))
    for wanted in range(1, bits + 1):
        assert np.array_equal(pixels(file, channels, bits=wanted), stored >> (bits - wanted))


def test_a_portable_picture_whose_largest_number_is_no_power_of_two() -> None:
    stored = np.array([0, 250, 500, 1000], np.uint16).reshape(2, 2, 1)
    assert pixels(netpbm(stored, 1000), 1).flatten().tolist() == [0, 64, 128, 255]
    assert pixels(netpbm(stored, 1000), 1, values="levels", bits=10).flatten().tolist() == [0, 250, 500, 1000]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (netpbm(RANDOM[:, :, :1], 65535)[:-1], "cut short: 53 numbers of 54"),
        (netpbm(RANDOM[:, :, :1], 65535, plain=True)[:-9], "cut short"),
        (netpbm(RANDOM[:, :, :1], 1000), "its head says 0 … 1000"),
        (b"P5 1 1 65536 aa", "largest number|maxval"),
        (b"P2 1 1 300 x", "invalid literal"),
    ],
)
def test_damaged_portable_pictures_are_one_sentence(file: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read_picture(file)


@pytest.mark.parametrize(("file", "bits"), [(AVIF, 10), (JPEG_2000, 12)])
@pytest.mark.parametrize("options", [{"bits": 9}, {"values": "real"}, {"values": "levels", "bits": 12}])
def test_colours_of_more_bits_are_never_read_as_8(
    file: bytes, bits: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=rf"^x has more than 8 bits per colour \({bits}\).*install 'hvdsl\[deep\]'"):
        pixels(file, **options)


@pytest.mark.parametrize(("file", "bits"), [(AVIF, 10), (JPEG_2000, 12)])
def test_eight_bits_of_more_are_told(file: bytes, bits: int, tmp_path: Path) -> None:
    notes: list[str] = []
    assert np.abs(pixels(file, notes=notes) - (COLOURS >> (bits - 8)).astype(int)).max() <= 1
    assert notes == ["x has more than 8 bits per colour: `bits = 8` takes the upper ones"]
    place = tmp_path / ("x.avif" if bits == 10 else "x.j2k")
    place.write_bytes(file)
    assert survey(place).kinds["uint8"].deep == 1


@pytest.mark.parametrize(("file", "bits"), [(AVIF, 10), (JPEG_2000, 12)])
def test_colours_of_more_bits_with_the_extra(file: bytes, bits: int) -> None:
    pytest.importorskip("imagecodecs")
    assert np.array_equal(pixels(file, values="levels", bits=bits), COLOURS)
    assert np.array_equal(pixels(file, values="real"), COLOURS.astype(np.float32))
    for wanted in range(9, bits + 1):
        assert np.array_equal(pixels(file, bits=wanted), COLOURS >> (bits - wanted))


@pytest.mark.parametrize("kind", ["avif", "jp2"])
def test_opacity_of_more_bits(kind: str) -> None:
    codecs = pytest.importorskip("imagecodecs")
    stored = RANDOM >> 6
    stored[:3, :, 3] = 1023  # opaque in 10 bits
    if kind == "avif":
        file = codecs.avif_encode(stored, level=100, bitspersample=10, pixelformat="444")
        stored = codecs.avif_decode(file)
    else:
        file = codecs.jpeg2k_encode(stored, level=0, reversible=True, bitspersample=10, codecformat="jp2")
    shown = pixels(file, values="real")
    assert np.array_equal(shown[:3], stored[:3, :, :3])
    share = stored[3:, :, 3:] / 1023
    assert np.abs(shown[3:] - (stored[3:, :, :3] * share + 1023 * (1 - share))).max() <= 1
    assert np.array_equal(pixels(file, 4, values="levels", bits=10, alpha="channel"), stored)


def test_grey_jpeg_2000_of_12_bits_is_whole_without_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    grey = COLOURS[:, :, :1]
    assert np.array_equal(pixels(GREY_JPEG_2000, 1, values="levels", bits=12), grey)
    assert np.array_equal(pixels(GREY_JPEG_2000, 1, values="real"), grey)
    assert np.array_equal(pixels(GREY_JPEG_2000, 1, bits=12), grey)
    assert np.array_equal(pixels(GREY_JPEG_2000, 1), grey >> 4)
    (tmp_path / "a.jp2").write_bytes(GREY_JPEG_2000)
    assert np.array_equal(np.asarray(ImageField(tmp_path).value(0, "a.png")), grey)


def test_signed_jpeg_2000_is_refused_where_its_numbers_are_asked_for() -> None:
    assert np.array_equal(pixels(SIGNED_JPEG_2000, 1, bits=12), COLOURS[:, :, :1] - 400 + 2048)
    with pytest.raises(DataError, match="its numbers are signed"):
        pixels(SIGNED_JPEG_2000, 1, values="real")
