"""From a picture file to its pixels, as every viewer shows them: one function, one order.

First frame, orientation tag, palette and colour space. What follows (transparency, depth, grey or colour, size) depends
on the spec and stands in `preprocess.py`. ICC profiles are ignored. What Pillow does not read, or not in full,
`deep.py` reads.
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

from hvdsl.runtime.data.errors import DataError

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
# TIFF's tags: of bits, of what 0 means, of the type of numbers, and the value of the last that means signed.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _SIGNED = 258, 262, 339, 2
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
_PLAIN = {"1": "L", "L": "L", "RGB": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "P": "RGB"}
_WITH_ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True, slots=True)
class DeepFile:
    """A picture file with more bits per colour than Pillow keeps, which is 8; `deep.py` reads it in full."""

    source: Path | bytes
    format: str  # by Pillow's name
    orientation: int  # the tag, still to be applied


class StoredImage:
    """An image as it is stored.

    Attributes:
        picture: The decoded picture of 8 bits, upright, where it is one; `values` are its numbers.
        alpha: Whether the last channel is opacity.
        deep: Its file, where that has more than 8 bits per colour, of which the upper 8 are here.
        frames: In its file, of which this is the first.
        profile: Whether its file has an ICC profile, which is not applied.
    """

    __slots__ = ("_values", "alpha", "deep", "frames", "picture", "profile")

    def __init__(
        self,
        stored: NDArray[Any] | Pillow.Image,
        alpha: bool = False,
        deep: DeepFile | None = None,
        frames: int = 1,
        profile: bool = False,
    ) -> None:
        self.picture = stored if isinstance(stored, Pillow.Image) else None
        self._values = None if isinstance(stored, Pillow.Image) else stored
        self.alpha, self.deep, self.frames, self.profile = alpha, deep, frames, profile

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
        raise UnreadableError("not a picture in a format that is read, or damaged at its start") from error
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
        grey = mode in ("1", "L", "LA", "La", "I", "F", *_SIXTEEN)
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
        deep = None
        if _is_deeper(picture):
            deep = DeepFile(
                source, format or "", 1 if format == "TIFF" else picture.getexif().get(ExifTags.Base.Orientation, 1)
            )
        retyped = _retyped(picture)
        inverted = _is_inverted(picture)
        key, profile = picture.info.get("transparency"), bool(picture.info.get("icc_profile"))
        picture.load()
        upright = ImageOps.exif_transpose(picture) if not _TAGGED.isdisjoint(picture.info) else picture
        if mode in _SIXTEEN or mode in ("I", "F"):
            values = np.asarray(upright)
            if mode != "F":
                values = _integers(values, format)
            if retyped is not None:
                values = values.view(retyped)
            if inverted:
                values = np.iinfo(values.dtype).max - values
            if alpha and isinstance(key, int):
                opaque = np.where(values == key, 0, np.iinfo(values.dtype).max).astype(values.dtype)
                return StoredImage(np.stack([values, opaque], axis=2), True, frames=frames, profile=profile)
            return StoredImage(values[:, :, None], frames=frames, profile=profile)
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
    if picture.mode == "RGBA" and any(part.startswith("LA;16") for part in _raw_modes(picture)):
        return "LA"
    if picture.mode not in _PLAIN and picture.mode not in _WITH_ALPHA and picture.mode not in ("I", "F", *_SIXTEEN):
        reason = f"its colour space {picture.mode} is not read: convert it to RGB"
        raise UnreadableError(reason, kind=f"of colour space {picture.mode} (not read)")
    return picture.mode


def _raw_modes(picture: Pillow.Image) -> list[str]:
    """How the pixels stand in the file, by Pillow's names."""
    tiles = getattr(picture, "tile", None) or ()
    raw = [part for tile in tiles for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    return [part for part in raw if isinstance(part, str)]


def _integers(values: NDArray[Any], format: str | None) -> NDArray[Any]:
    """16-bit values as such: PNG and PNM may arrive in 32 bits, which their format cannot have."""
    if values.dtype.itemsize == 2:
        return values.astype(np.uint16)
    if format in ("PNG", "PPM"):
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
    plain = picture.mode in _SIXTEEN and all(part in _SIXTEEN for part in _raw_modes(picture))
    return plain and dict(getattr(picture, "tag_v2", {})).get(_PHOTOMETRIC) == 0


def _has_alpha(picture: Pillow.Image) -> bool:
    return picture.mode in _WITH_ALPHA or "transparency" in picture.info


def _bits(picture: Pillow.Image) -> int:
    """Bits per colour of a TIFF file, as its head says; 0 of others."""
    return max(map(int, dict(getattr(picture, "tag_v2", {})).get(_BITS_PER_SAMPLE, (0,))))


def _is_deeper(picture: Pillow.Image) -> bool:
    """Whether the file has more than 8 bits per colour, of which Pillow keeps 8."""
    if picture.mode in (*_SIXTEEN, "I", "F"):
        return False
    arguments = [tile[3] for tile in getattr(picture, "tile", None) or () if isinstance(tile[3], tuple)]
    largest = [n for args in arguments for n in args if picture.format == "PPM" and isinstance(n, int)]
    return max(largest, default=0) > 255 or _bits(picture) > 8 or any(";16" in part for part in _raw_modes(picture))


def _refuse_misread(picture: Pillow.Image) -> None:
    """Refuse what Pillow reads as something else: planes of 16 bits each, which it takes for planes of 8.

    Raises:
        UnreadableError: it is such a file.
    """
    if _bits(picture) > 8 and any(part in ("R", "C") for part in _raw_modes(picture)):
        raise UnreadableError("its colours are planes of 16 bits each")


def _retyped(picture: Pillow.Image) -> str | None:
    """The type of a TIFF file's numbers, where Pillow reads signed ones as unsigned or unsigned ones as signed."""
    if picture.format != "TIFF" or picture.mode not in ("L", "I"):
        return None
    tags = dict(getattr(picture, "tag_v2", {}))
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if picture.mode == "L":
        return "int8" if signed and _bits(picture) == 8 else None
    return "uint32" if not signed and _bits(picture) == 32 else None


def unreadable(what: str, error: UnreadableError) -> DataError:
    """Return the error of a picture that has to be readable."""
    return DataError(f"{what} cannot be read: {error}")
