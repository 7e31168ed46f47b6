"""Pictures that Pillow does not read, or not with their own numbers: of more than 8 bits per colour, TIFFs of many
channels or of floats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.errors import DataError, optional
from hvdsl.runtime.data.netpbm import at_full_depth, read_netpbm
from hvdsl.runtime.data.picture import DeepFile, ImageHeader, StoredImage, UnreadableError, read_picture

_EXTRA = "deep"
# Bytes of a TIFF file's picture that may be more than so many times those of the file: deflate cannot.
_LARGEST, _RATIO = 1 << 26, 1032
# What an orientation tag asks for, as (transpose first, flip rows, flip columns).
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read_deep(file: DeepFile, name: str, *, to_16_bits: bool = False) -> StoredImage:
    """Return a picture with the numbers in its file, (H, W, C) uint8 or uint16, upright.

    Args:
        name: Of the image, for messages.
        to_16_bits: Scale numbers of 9 to 15 bits to 16.

    Raises:
        DataError: the package that reads them is not installed, they are signed, or the file is damaged.
    """
    bits = f"more than 8 bits per colour{'' if file.bits == 16 else f' ({abs(file.bits)})'}"
    what = f"{name} has {bits}, and reading them"
    try:
        if file.bits < 0:
            raise UnreadableError("its numbers are signed, which is read in TIFF and array files only")
        if file.format == "TIFF":
            optional("imagecodecs", _EXTRA, what)  # which tifffile decompresses with
            optional("tifffile", _EXTRA, what)
            return read_tiff(file.source)
        if file.format == "PPM":
            return _read_portable(file)
        if not file.cut:  # grey JPEG 2000, which Pillow shifts up
            whole = read_picture(file.source).values
            return StoredImage(whole >> (8 * whole.dtype.itemsize - file.bits), top=(1 << file.bits) - 1)
        return _read_by_codec(file, optional("imagecodecs", _EXTRA, what), to_16_bits)
    except UnreadableError as error:
        raise DataError(f"{name} cannot be read: {error}") from error


def _read_portable(file: DeepFile) -> StoredImage:
    try:
        numbers = read_netpbm(file.source)
    except (ValueError, OSError) as error:
        raise UnreadableError(f"damaged ({error})") from error
    if numbers is None:
        raise UnreadableError("it is no portable picture any more")
    return StoredImage(numbers[0], top=numbers[1])


def _read_by_codec(file: DeepFile, imagecodecs: Any, to_16_bits: bool) -> StoredImage:
    decode = {"PNG": "png_decode", "JPEG2000": "jpeg2k_decode", "AVIF": "avif_decode"}[file.format]
    try:
        data = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
        values: NDArray[Any] = getattr(imagecodecs, decode)(data)
    except Exception as error:  # of damaged files it raises its own errors and ValueError
        raise UnreadableError(f"damaged ({error})") from error
    if values.ndim not in (2, 3) or values.dtype != np.uint16:
        raise UnreadableError(f"{values.dtype} of shape {values.shape} is no single image of {file.bits} bits")
    values = values[:, :, None] if values.ndim == 2 else values
    top = (1 << file.bits) - 1
    values, top = (at_full_depth(values, top), 65535) if to_16_bits else (values, top)
    return StoredImage(_upright(values, file.orientation), alpha=values.shape[2] in (2, 4), top=top)


def read_tiff(source: Path | bytes) -> StoredImage:
    """Return the first page of a TIFF file, (H, W, C) of any numbers, upright, by tifffile, which has to be there.

    Raises:
        UnreadableError: damaged, or in a colour space that is not read.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            page: Any = file.pages.first
            header = _header_of(page)
            values = _channels_last(page.asarray(), page.axes)
            if page.photometric.name == "MINISWHITE":
                values = np.iinfo(values.dtype).max - values
            if header.alpha and page.extrasamples[-1].name == "ASSOCALPHA":
                values = _unmultiplied(values)
            tag = page.tags.get("Orientation")
            upright = _upright(values, int(tag.value) if tag is not None else 1)
            return StoredImage(upright, header.alpha, frames=len(file.pages))
    except UnreadableError:
        raise
    except Exception as failure:  # of damaged files it raises almost anything
        raise UnreadableError(f"damaged ({failure})") from failure


def read_tiff_header(path: Path) -> ImageHeader:
    """Return what the head of a TIFF file says, by tifffile; nothing is decoded. Raises UnreadableError."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return _header_of(file.pages.first)
    except UnreadableError:
        raise
    except Exception as failure:
        raise UnreadableError(f"damaged ({failure})") from failure


def _header_of(page: Any) -> ImageHeader:
    axes, shape, kind = page.axes, dict(zip(page.axes, page.shape, strict=True)), np.dtype(page.dtype)
    if axes not in ("YX", "YXS", "SYX") or kind.kind not in "buif":
        raise UnreadableError(f"{kind} with axes {axes} of {page.shape} is no image (H, W), (H, W, C) or (C, H, W)")
    white = page.photometric.name == "MINISWHITE" and kind.kind == "u"
    if page.photometric.name not in ("MINISBLACK", "RGB") and not white:
        raise UnreadableError(f"its colour space {page.photometric.name} is not read: convert it to RGB")
    if page.nbytes > _LARGEST and page.nbytes > _RATIO * page.parent.filehandle.size:
        raise UnreadableError("its header states an absurd size")
    samples = shape.get("S", 1)
    extra = page.extrasamples[-1].name if page.extrasamples else ""
    alpha = samples in (2, 4) and kind.kind == "u" and extra in ("ASSOCALPHA", "UNASSALPHA")
    tag = page.tags.get("Orientation")
    height, width = shape["Y"], shape["X"]
    if tag is not None and _UPRIGHT.get(int(tag.value), (False,))[0]:
        height, width = width, height
    return ImageHeader(height, width, samples - alpha, alpha, str(kind))


def _channels_last(values: NDArray[Any], axes: str) -> NDArray[Any]:
    if axes == "SYX":
        return values.transpose(1, 2, 0)
    return values[:, :, None] if values.ndim == 2 else values


def _unmultiplied(values: NDArray[Any]) -> NDArray[Any]:
    """Colours that opacity was multiplied into, as they were before."""
    top, opacity = np.iinfo(values.dtype).max, values[:, :, -1:].astype(np.float64)
    colours = np.minimum(np.rint(values[:, :, :-1] * (top / np.maximum(opacity, 1))), top)
    return np.concatenate([colours.astype(values.dtype), values[:, :, -1:]], axis=2)


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, C) as a viewer shows it."""
    transposed, rows, columns = _UPRIGHT.get(orientation, (False, False, False))
    values = values.transpose(1, 0, 2) if transposed else values
    return np.ascontiguousarray(values[:: -1 if rows else 1, :: -1 if columns else 1])
