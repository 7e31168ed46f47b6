"""One policy from a file to pixels: every mode in every format, depth, transparency, orientation, size and values."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data, RandomCrop, Resize
from hvdsl.runtime.data import DataError, Dataset, open_splits
from hvdsl.runtime.data.picture import StoredImage, UnreadableError, read_header, read_picture
from hvdsl.runtime.data.preprocess import Preprocess
from hvdsl.runtime.data.stored import read_image

SIZE = (6, 9)  # height, width
GREY = np.linspace(0, 255, 54).round().astype(np.uint8).reshape(SIZE)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
DEEP = np.linspace(0, 65535, 54).round().astype(np.uint16).reshape(SIZE)


def settings(shape: tuple[int, int, int] = (3, 6, 9), **options: Any) -> Data:
    return Data(name="images", shape=shape, **options)


def pixels(raster: StoredImage, data: Data, *, training: bool = False, epoch: int = 0, index: int = 0) -> Any:
    return Preprocess(data, training=training)(raster, epoch, index)


def picture_of(mode: str) -> Pillow.Image:
    """A picture in this mode, opaque, with the values above."""
    match mode:
        case "1":
            return Pillow.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)).convert("1")
        case "I;16":
            return Pillow.fromarray(DEEP)
        case "I":
            return Pillow.fromarray(DEEP.astype(np.int32))
        case "F":
            return Pillow.fromarray(GREY.astype(np.float32) / 7 - 3)
        case "P":
            return Pillow.fromarray(COLOUR).convert("P", palette=Pillow.Palette.ADAPTIVE)
        case "L" | "LA":
            return Pillow.fromarray(GREY).convert(mode)
    return Pillow.fromarray(COLOUR).convert(mode)


# What each format can hold of each mode without loss of the mode; JPEG and WebP round.
MATRIX = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P"),
    "PPM": ("1", "L", "RGB", "I;16", "I"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
}
SUFFIX = {"PNG": "png", "TIFF": "tif", "BMP": "bmp", "GIF": "gif", "PPM": "ppm", "JPEG": "jpg", "WEBP": "webp"}


def shown(mode: str) -> Any:
    """The picture's 8-bit pixels (H, W, C) as a viewer shows them, without alpha."""
    picture = picture_of(mode)
    match mode:
        case "I;16" | "I":
            return (DEEP >> 8).astype(np.uint8)[:, :, None]
        case "1" | "L" | "LA":
            return np.asarray(picture.convert("L"))[:, :, None]
    return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MATRIX.items() for mode in modes])
def test_every_mode_in_every_format(tmp_path: Path, form: str, mode: str) -> None:
    path = tmp_path / f"x.{SUFFIX[form]}"
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    picture_of(mode).save(path, form, **options)
    raster, header = read_picture(path), read_header(path)
    channels = raster.values.shape[2] - raster.alpha
    assert (*raster.values.shape[:2], channels, raster.alpha) == (6, 9, header.channels, header.alpha)
    if mode == "F":
        real = pixels(raster, settings((1, 6, 9), values="real"))
        assert np.array_equal(real[0], GREY.astype(np.float32) / 7 - 3)
        with pytest.raises(DataError, match=r"float32 from -3 to .*write `values = real`"):
            pixels(raster, settings((1, 6, 9)))
        return
    if (form, mode) == ("TIFF", "I"):  # 32 bits: more than can be meant
        with pytest.raises(DataError, match="int32 from 0 to 65535: write `values = levels, bits = 16`"):
            pixels(raster, settings((1, 6, 9)))
        assert np.array_equal(pixels(raster, settings((1, 6, 9), values="levels", bits=16))[0], DEEP)
        return
    expected = shown(mode)
    if channels == 3 and expected.shape[2] == 1:  # palettes of grey arrive as colours
        expected = expected.repeat(3, axis=2)
    rendered = pixels(raster, settings((channels, 6, 9)))
    tolerance = 4 if form == "JPEG" else 0
    assert np.abs(rendered.transpose(1, 2, 0).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_kept_or_cut_from_below(tmp_path: Path, form: str, bits: int) -> None:
    path = tmp_path / f"x.{SUFFIX[form]}"
    Pillow.fromarray(DEEP).save(path, form)
    rendered = pixels(read_picture(path), settings((1, 6, 9), bits=bits))
    assert np.array_equal(rendered[0], DEEP >> (16 - bits))
    assert rendered.dtype == (np.uint8 if bits <= 8 else np.uint16)


def test_eight_bits_do_not_serve_more() -> None:
    with pytest.raises(DataError, match=r"does not serve `bits = 12`: it has 8 bits; write `bits = 8`"):
        pixels(StoredImage(COLOUR), settings(bits=12))


def deep_png(values: Any, colour_type: int) -> bytes:
    """A PNG file of 16 bits a channel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_deep_grey_with_opacity_is_grey() -> None:
    png = deep_png(np.stack([DEEP, np.full_like(DEEP, 65535)], axis=2), 4)
    assert (read_header(png).channels, read_header(png).alpha) == (1, True)
    assert np.array_equal(pixels(read_picture(png), settings((1, 6, 9)))[0], DEEP >> 8)


def test_white_may_be_zero_in_a_tiff_of_16_bits(tmp_path: Path) -> None:
    Pillow.fromarray(DEEP).save(tmp_path / "x.tif", tiffinfo={262: 0})
    with Pillow.open(tmp_path / "x.tif") as stored:
        assert stored.tag_v2[262] == 0  # type: ignore[attr-defined]  # of TIFF files
    assert np.array_equal(read_picture(tmp_path / "x.tif").values[:, :, 0], 65535 - DEEP)


def test_a_colour_profile_is_ignored_and_told(tmp_path: Path) -> None:
    Pillow.fromarray(COLOUR).save(tmp_path / "x.png", icc_profile=b"a profile of a camera")
    notes: list[str] = []
    preprocess = Preprocess(settings(), training=False, tell=lambda kind, sentence: notes.append(sentence))
    rendered = preprocess(read_picture(tmp_path / "x.png"), 0, 0, "x.png")
    assert np.array_equal(rendered.transpose(1, 2, 0), COLOUR)
    assert notes == ["x.png has an ICC profile: it is ignored, colours are taken as their numbers stand"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1"])
@pytest.mark.parametrize(("alpha", "value"), [(None, 255), ("white", 255), ("black", 0), ("grey", 128)])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str, alpha: str | None, value: int) -> None:
    path = tmp_path / "x.png"
    if mode in ("RGBA", "LA"):
        hidden = np.zeros((*SIZE, 4), np.uint8)
        hidden[:, :, 1] = 255  # a colour that no viewer shows
        Pillow.fromarray(hidden).convert(mode).save(path)
    else:
        colour = {"RGB": (0, 255, 0), "L": 77, "1": 0}.get(mode, 0)
        picture = Pillow.new(mode, (9, 6), colour)
        if mode == "P":
            picture.putpalette([0, 255, 0, 9, 9, 9])
        picture.save(path, transparency=colour)
    notes: list[str] = []
    data = settings(alpha=alpha)
    rendered = Preprocess(data, training=False, tell=lambda kind, sentence: notes.append(kind))(
        read_picture(path), 0, 0, "x.png"
    )
    assert (rendered == value).all()
    assert "alpha" in notes


def test_half_transparent_pixels_are_mixed_and_alpha_may_be_dropped_or_kept() -> None:
    values = np.dstack([COLOUR, np.full(SIZE, 51, np.uint8)])
    raster = StoredImage(values, alpha=True)
    mixed = pixels(raster, settings()).transpose(1, 2, 0)
    assert np.abs(mixed - (COLOUR * 0.2 + 255 * 0.8)).max() <= 0.5
    assert np.array_equal(pixels(raster, settings(alpha="drop")).transpose(1, 2, 0), COLOUR)
    assert np.array_equal(pixels(raster, settings((4, 6, 9))).transpose(1, 2, 0), values)
    opaque = pixels(StoredImage(COLOUR), settings((4, 6, 9), alpha="channel"))
    assert (opaque[3] == 255).all()
    with pytest.raises(DataError, match=r"has 3 channels.*wants 4.*`alpha = channel`"):
        pixels(StoredImage(COLOUR), settings((4, 6, 9)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_tags_are_applied(tmp_path: Path, form: str, orientation: int) -> None:
    scene = np.zeros((6, 9), np.uint8)
    scene[:2, :3] = 255  # the corner at the top left
    stored = {
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1],
        5: scene.T, 6: np.rot90(scene), 7: scene[::-1, ::-1].T, 8: np.rot90(scene, -1),
    }[orientation]  # fmt: skip
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{SUFFIX[form]}"
    picture = Pillow.fromarray(np.ascontiguousarray(stored))
    if form == "WEBP":
        picture = picture.convert("RGB")
    picture.save(path, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    header = read_header(path)
    assert (header.height, header.width) == (6, 9)
    rendered = read_picture(path).values[:, :, 0]
    assert rendered.shape == (6, 9)
    assert np.abs(rendered.astype(int) - scene).max() < 60


def test_the_first_frame_of_a_moving_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    frames = [Pillow.new("L", (9, 6), level) for level in (200, 10)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    notes: list[str] = []
    raster = read_picture(path)
    rendered = Preprocess(settings((1, 6, 9)), training=False, tell=lambda kind, sentence: notes.append(sentence))(
        raster, 0, 0, "x.gif"
    )
    assert (rendered == 200).all()
    assert "x.gif has 2 frames: the first is taken" in notes


@pytest.mark.parametrize(
    "values", [np.full((6, 9), 300, np.int64), np.linspace(0, 1, 54).reshape(SIZE), np.full((6, 9), -1, np.int16)]
)
def test_what_is_no_pixel_is_refused_with_the_line_to_write(values: Any) -> None:
    with pytest.raises(DataError, match=r"an image holds .* from .* to .*: write `values = (levels|real)"):
        pixels(StoredImage(values[:, :, None]), settings((1, 6, 9)))


def test_levels_are_taken_as_they_are() -> None:
    levels = (GREY >> 4)[:, :, None]
    rendered = pixels(StoredImage(levels), settings((1, 6, 9), bits=4, values="levels"))
    assert np.array_equal(rendered[0], GREY >> 4)
    with pytest.raises(DataError, match=r"values up to 255: .* 0 … 15; write `bits = 8`"):
        pixels(StoredImage(GREY[:, :, None]), settings((1, 6, 9), bits=4, values="levels"))


def test_real_numbers_stay_what_they_are() -> None:
    values = np.random.default_rng(0).normal(0, 1e6, (6, 9, 5))
    rendered = pixels(StoredImage(values), settings((5, 6, 9), values="real"))
    assert rendered.dtype == np.float32
    assert np.array_equal(rendered, values.transpose(2, 0, 1).astype(np.float32))
    values[2, 3, 1] = np.nan
    with pytest.raises(DataError, match="holds NaN"):
        pixels(StoredImage(values), settings((5, 6, 9), values="real"))


def test_more_than_8_bits_are_resized_without_rounding_to_bytes() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None, :].repeat(64, 0)[:, :, None]
    small = pixels(StoredImage(ramp), settings((1, 16, 16), bits=16, resize=(16, 16)))
    assert small.dtype == np.uint16
    assert len(np.unique(small % 256)) > 4  # the lower byte lives
    real = pixels(StoredImage(ramp.astype(np.float64) - 9e4), settings((1, 16, 16), values="real", resize=(16, 16)))
    assert np.abs(real + 9e4 - small).max() < 1


def test_resize_crops_stretches_or_fits() -> None:
    image = np.zeros((20, 40, 1), np.uint8)
    image[:, 10:30] = 255
    assert (pixels(StoredImage(image), settings((1, 10, 10), resize=(10, 10))) == 255).all()
    stretched = pixels(StoredImage(image), settings((1, 10, 10), resize=Resize(kind="stretch", size=(10, 10))))
    assert (stretched[0, :, 4:6] == 255).all() and (stretched[0, :, [0, 9]] == 0).all()
    image[:] = 255
    fitted = pixels(StoredImage(image), settings((1, 10, 10), resize=Resize(kind="fit", size=(10, 10))))
    assert np.array_equal(fitted[0].sum(1) > 0, np.array([0, 0, 1, 1, 1, 1, 1, 0, 0, 0], bool))


@pytest.mark.parametrize("size", [(40, 23), (23, 40), (16, 16), (32, 32), (9, 60)])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("L", 3), ("RGB", 3), ("RGB", 1), ("RGB", 4)])
def test_a_picture_gives_the_pixels_of_its_numbers(size: tuple[int, int], mode: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    picture = Pillow.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode)
    numbers = StoredImage(StoredImage(picture).values)
    for options in ({}, {"bits": 3}, {"values": "real"}, {"pad": 2, "resize": (12, 12)}, {"crop": (0, 0, 8, 8)}):
        alpha = {"alpha": "channel"} if channels == 4 else {}
        data = settings((channels, 16, 16), **({"resize": (16, 16)} | options | alpha))
        assert np.array_equal(pixels(StoredImage(picture), data), pixels(numbers, data))


def test_random_crops_and_shifts_are_of_training_and_follow_the_epoch() -> None:
    image = np.arange(400, dtype=np.uint16).reshape(20, 20, 1).astype(np.uint8)
    data = settings((1, 8, 8), crop=RandomCrop(size=(8, 8)))
    assert np.array_equal(pixels(StoredImage(image), data)[0], image[6:14, 6:14, 0])
    crops = [pixels(StoredImage(image), data, training=True, epoch=e)[0] for e in range(8)]
    assert len({crop.tobytes() for crop in crops}) > 4
    assert np.array_equal(crops[3], pixels(StoredImage(image), data, training=True, epoch=3)[0])
    shift = settings((1, 20, 20), shift=2)
    assert np.array_equal(pixels(StoredImage(image), shift)[0], image[:, :, 0])
    moved = {pixels(StoredImage(image), shift, training=True, epoch=e).tobytes() for e in range(40)}
    assert 10 < len(moved) <= 25
    with pytest.raises(DataError, match=r"is 20x20, smaller than `crop = random\(32x32\)`"):
        pixels(StoredImage(image), settings((1, 32, 32), crop=RandomCrop(size=(32, 32))))


def test_a_crop_outside_of_an_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"is 6x9, and `crop = \(0, 0, 10, 6\)` reaches to 6x10"):
        pixels(StoredImage(COLOUR), settings((3, 6, 10), crop=(0, 0, 10, 6)))


def test_an_absurd_header_is_a_sentence() -> None:
    file = io.BytesIO()
    Pillow.new("L", (4, 4)).save(file, "png")
    bomb = bytearray(file.getvalue())
    bomb[16:24] = (1 << 20).to_bytes(4, "big") * 2
    with pytest.raises(UnreadableError, match=r"absurd|more than|damaged"):
        read_picture(bytes(bomb))


def test_arrays_in_files_are_images_too(tmp_path: Path) -> None:
    for shape in ((6, 9), (6, 9, 2), (2, 6, 9)):
        values = np.random.default_rng(0).random(shape)
        np.save(tmp_path / "x.npy", values)
        assert read_image(tmp_path / "x.npy").values.shape == (6, 9, 1 if len(shape) == 2 else 2)
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(UnreadableError, match="no image"):
        read_image(tmp_path / "x.npy")


def test_four_channels_from_pictures_and_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 9, 4), dtype=np.uint8)
    for i, image in enumerate(values):
        Pillow.fromarray(image).save(tmp_path / f"{i}.png")
    data = Data(name="images", shape=(4, 6, 9), holdout=1)
    splits = open_splits(data, tmp_path)
    both = np.concatenate([splits.train.batch(range(4)), splits.validation.batch([0])])
    assert {x.tobytes() for x in both} == {np.ascontiguousarray(x.transpose(2, 0, 1)).tobytes() for x in values}
    for array in (values, values.transpose(0, 3, 1, 2)):
        np.save(tmp_path / "x.npy", array)
        train = open_splits(data, tmp_path / "x.npy").train
        assert train.batch([0]).shape == (1, 4, 6, 9)


def test_any_number_of_channels_and_bits_from_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 16, (5, 7, 6, 9), dtype=np.uint16)
    np.save(tmp_path / "x.npy", values)
    train = open_splits(Data(name="arrays", shape=(7, 6, 9), bits=13, holdout=1), tmp_path / "x.npy").train
    assert train.batch(range(4)).max() > 4096
    assert isinstance(train, Dataset)
