"""From a picture file to its pixels, as every viewer shows them: one function, one order.

First frame, orientation tag, palette and colour space. What follows (transparency, depth, grey or colour, size) depends
on the spec and stands in `preprocess.py`. ICC profiles are ignored. What Pillow does not read, or not in full,
`deep.py` reads; how many bits there are, `depth.py` knows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImageOps, UnidentifiedImageError
from PIL import Image as Pillow

from hvdsl.runtime.data.depth import SIXTEEN, jpeg_kind, raw_modes, stored_bits, tiff_bits
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.netpbm import at_full_depth, read_netpbm

# What Pillow reads in its own process and in bounded time: no PostScript, no documents, no video.
Pillow.init()
FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "TGA")
    if name in Pillow.OPEN
)
LARGEST = 1 << 28  # pixels of one picture: 16,384 x 16,384
_TAGGED = frozenset(("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"))  # where an orientation may stand
_SIDEWAYS = (5, 6, 7, 8)  # orientation tags that swap height and width
# TIFF's tags: of what 0 means, of the type of numbers, and the value of the last that means signed.
_PHOTOMETRIC, _SAMPLE_FORMAT, _SIGNED = 262, 339, 2
_PLAIN = {"1": "L", "L": "L", "RGB": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "P": "RGB"}
_WITH_ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True, slots=True)
class DeepFile:
    """A picture file whose numbers Pillow does not keep: it scales them, or cuts them; `deep.py` reads them.

    Attributes:
        format: By Pillow's name.
        orientation: The tag, still to be applied.
        bits: Per colour; negative where the numbers are signed.
        cut: Whether there are more than 8 bits, of which Pillow keeps the upper 8.
    """

    source: Path | bytes
    format: str
    orientation: int
    bits: int
    cut: bool


class StoredImage:
    """An image as it is stored.

    Attributes:
        picture: The decoded picture of 8 bits, upright, where it is one; `values` are its numbers.
        alpha: Whether the last channel is opacity.
        deep: Its file, where that has other numbers: more bits per colour, or others than 8 or 16.
        top: The number of full opacity, or of white.
        frames: In its file, of which this is the first.
        profile: Whether its file has an ICC profile, which is not applied.
    """

    __slots__ = ("_top", "_values", "alpha", "deep", "frames", "picture", "profile")

    def __init__(
        self,
        stored: NDArray[Any] | Pillow.Image,
        alpha: bool = False,
        deep: DeepFile | None = None,
        frames: int = 1,
        profile: bool = False,
        top: int | None = None,
    ) -> None:
        self.picture = stored if isinstance(stored, Pillow.Image) else None
        self._values = None if isinstance(stored, Pillow.Image) else stored
        self.alpha, self.deep, self.frames, self.profile, self._top = alpha, deep, frames, profile, top

    @property
    def top(self) -> int:
        kind = self.values.dtype
        return self._top or (int(np.iinfo(kind).max) if kind.kind in "ui" else 1)

    @property
    def values(self) -> NDArray[Any]:
        """(H, W, C) as uint8 or uint16, or any other numbers of an array."""
        if self._values is None:
            values = np.asarray(self.picture)
            self._values = values[:, :, None] if values.ndim == 2 else values
        return self._values


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the head of a file says of its picture, as a viewer shows it."""

    height: int
    width: int
    channels: int  # without alpha
    alpha: bool
    mode: str  # by Pillow's name


class UnreadableError(ValueError):
    """A picture that cannot be read, with the reason in words.

    Args:
        kind: What it is counted under.
    """

    def __init__(self, reason: str, *, kind: str = "damaged") -> None:
        super().__init__(reason)
        self.kind = kind


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Pillow.Image]:
    """Open a picture; whatever Pillow raises of damaged ones becomes an `UnreadableError`."""
    try:
        # By handle, not by name: Pillow would map a named file, and reads sideways TIFFs wrongly that way.
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            Pillow.open(file, formats=FORMATS) as picture,
        ):
            if picture.width * picture.height > LARGEST:
                raise UnreadableError(f"{picture.height}x{picture.width} pixels are more than {LARGEST:,}")
            yield picture
    except UnreadableError:
        raise
    except FileNotFoundError as error:
        raise UnreadableError("the file is gone") from error
    except UnidentifiedImageError as error:
        reason = jpeg_kind(source) or "not a picture in a format that is read, or damaged at its start"
        raise UnreadableError(reason) from error
    except Pillow.DecompressionBombError as error:
        raise UnreadableError("its header states an absurd size") from error
    except MemoryError as error:
        raise UnreadableError("decoding needs more memory than there is") from error
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except Exception as error:  # readers of damaged files raise almost anything: struct.error, IndexError, zlib.error …
        raise UnreadableError(f"damaged ({str(error) or type(error).__name__})") from error


def read_header(source: Path | bytes) -> ImageHeader:
    """Return what the head of a picture file says; nothing is decoded.

    Raises:
        UnreadableError: not a picture, or damaged at its start.
    """
    with _opened(source) as picture:
        height, width = picture.height, picture.width
        if _orientation(picture) in _SIDEWAYS:
            height, width = width, height
        mode, alpha = _mode(picture), _has_alpha(picture)
        _refuse_misread(picture)
        grey = mode in ("1", "L", "LA", "La", "I", "F", *SIXTEEN)
        return ImageHeader(height, width, 1 if grey else 3, alpha, mode)


def read_picture(source: Path | bytes) -> StoredImage:
    """Decode a picture file to (H, W, C), 8 or 16 bits deep (or float32 of a float TIFF), upright, first frame.

    Raises:
        UnreadableError: not a picture, damaged, or in a colour space that is not read.
    """
    with _opened(source) as picture:
        frames = int(getattr(picture, "n_frames", 1)) if picture.format != "MPO" else 1  # those are views of one scene
        alpha, mode, format = _has_alpha(picture), _mode(picture), picture.format
        _refuse_misread(picture)
        if format == "PPM" and (netpbm := read_netpbm(source)) is not None:
            return _netpbm(source, *netpbm)
        deep = _deep_file(picture, source)
        retyped = _retyped(picture)
        inverted = _is_inverted(picture)
        key, profile = picture.info.get("transparency"), bool(picture.info.get("icc_profile"))
        picture.load()
        upright = ImageOps.exif_transpose(picture) if not _TAGGED.isdisjoint(picture.info) else picture
        if mode in SIXTEEN or mode in ("I", "F"):
            values = np.asarray(upright)
            if mode != "F":
                values = _integers(values, format)
            if retyped is not None:
                values = values.view(retyped)
            if inverted:
                values = np.iinfo(values.dtype).max - values
            if alpha and isinstance(key, int):
                opaque = np.where(values == key, 0, np.iinfo(values.dtype).max).astype(values.dtype)
                return StoredImage(np.stack([values, opaque], axis=2), True, deep, frames, profile)
            return StoredImage(values[:, :, None], False, deep, frames, profile)
        eight = _eight_bits(upright, mode, alpha)
        if retyped is not None:
            return StoredImage(np.asarray(eight).view(retyped)[:, :, None], frames=frames, profile=profile)
        return StoredImage(eight, alpha, deep, frames, profile)


def _eight_bits(picture: Pillow.Image, mode: str, alpha: bool) -> NDArray[np.uint8] | Pillow.Image:
    with_alpha = _WITH_ALPHA.get(mode, "LA" if mode in ("1", "L") else "RGBA")
    wanted = with_alpha if alpha else _PLAIN[mode]
    if mode == "RGBa":  # Pillow converts premultiplied colours only to RGBA
        picture = picture.convert("RGBA")
    if wanted == "LA" and picture.mode not in ("LA", "La"):  # a transparent level, or 16 bits: by way of RGBA
        return np.asarray(picture.convert("RGBA"))[:, :, [0, 3]]
    return picture if picture.mode == wanted else picture.convert(wanted)


def _mode(picture: Pillow.Image) -> str:
    """The mode of a file's pixels: Pillow opens grey with opacity of 16 bits each as colours.

    Raises:
        UnreadableError: a colour space that is not read.
    """
    if picture.mode == "RGBA" and any(part.startswith("LA;16") for part in raw_modes(picture)):
        return "LA"
    if picture.mode not in _PLAIN and picture.mode not in _WITH_ALPHA and picture.mode not in ("I", "F", *SIXTEEN):
        reason = f"its colour space {picture.mode} is not read: convert it to RGB"
        raise UnreadableError(reason, kind=f"of colour space {picture.mode} (not read)")
    return picture.mode


def _integers(values: NDArray[Any], format: str | None) -> NDArray[Any]:
    """16-bit values as such: PNG may arrive in 32 bits, which its format cannot have."""
    if values.dtype.itemsize == 2:
        return values.astype(np.uint16)
    if format == "PNG":
        return values.clip(0, 65535).astype(np.uint16)
    return values


def _orientation(picture: Pillow.Image) -> int:
    """The orientation tag that is still to be applied, where the head of the file has it.

    Pillow applies TIFF's itself, and reading one that stands behind PNG's pixels would decode them.
    """
    if picture.format == "TIFF" or (picture.format == "PNG" and "exif" not in picture.info):
        return 1
    return int(picture.getexif().get(ExifTags.Base.Orientation, 1))


def _is_inverted(picture: Pillow.Image) -> bool:
    """Whether 0 is white in a TIFF file of 16 bits: Pillow inverts those of 8 bits only."""
    plain = picture.mode in SIXTEEN and all(part in SIXTEEN for part in raw_modes(picture))
    return plain and dict(getattr(picture, "tag_v2", {})).get(_PHOTOMETRIC) == 0


def _has_alpha(picture: Pillow.Image) -> bool:
    return picture.mode in _WITH_ALPHA or "transparency" in picture.info


def _deep_file(picture: Pillow.Image, source: Path | bytes) -> DeepFile | None:
    """The file of an opened picture, where the numbers that Pillow gives are not those in it."""
    bits = stored_bits(picture, source)
    whole = picture.mode in (*SIXTEEN, "I", "F")
    if bits == (16 if whole else 8) or picture.mode in ("P", "PA"):
        return None
    upright = 1 if picture.format == "TIFF" else picture.getexif().get(ExifTags.Base.Orientation, 1)
    return DeepFile(source, picture.format or "", upright, bits, cut=abs(bits) > 8 and not whole)


def _netpbm(source: Path | bytes, values: NDArray[Any], top: int) -> StoredImage:
    """A portable picture, its numbers scaled to 8 or 16 bits."""
    kept = DeepFile(source, "PPM", 1, top.bit_length(), cut=False) if top not in (255, 65535) else None
    return StoredImage(at_full_depth(values, top), deep=kept)


def _refuse_misread(picture: Pillow.Image) -> None:
    """Refuse what Pillow reads as something else: planes of 16 bits each, which it takes for planes of 8.

    Raises:
        UnreadableError: it is such a file.
    """
    if tiff_bits(picture) > 8 and any(part in ("R", "C") for part in raw_modes(picture)):
        raise UnreadableError("its colours are planes of 16 bits each")


def _retyped(picture: Pillow.Image) -> str | None:
    """The type of a TIFF file's numbers, where Pillow reads signed ones as unsigned or unsigned ones as signed."""
    if picture.format != "TIFF" or picture.mode not in ("L", "I"):
        return None
    tags = dict(getattr(picture, "tag_v2", {}))
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if picture.mode == "L":
        return "int8" if signed and tiff_bits(picture) == 8 else None
    return "uint32" if not signed and tiff_bits(picture) == 32 else None


def unreadable(what: str, error: UnreadableError) -> DataError:
    """Return the error of a picture that has to be readable."""
    return DataError(f"{what} cannot be read: {error}")
