"""Pictures that Pillow does not read, or not in full: colours of 16 bits, TIFFs of many channels or of floats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.errors import DataError, optional
from hvdsl.runtime.data.picture import DeepFile, ImageHeader, StoredImage, UnreadableError

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


def read_deep(file: DeepFile, name: str) -> StoredImage:
    """Return a picture with all bits of its colours, (H, W, C) uint16, upright.

    Args:
        name: Of the image, for messages.

    Raises:
        DataError: the package that reads them is not installed, the format is not read in full, or it is damaged.
    """
    what = f"{name} has more than 8 bits per colour, and reading them"
    try:
        if file.format == "TIFF":
            optional("imagecodecs", _EXTRA, what)  # which tifffile decompresses with
            optional("tifffile", _EXTRA, what)
            return read_tiff(file.source)
        if file.format == "PNG":
            return _read_png(file, optional("imagecodecs", _EXTRA, what))
    except UnreadableError as error:
        raise DataError(f"{name} cannot be read: {error}") from error
    raise DataError(
        f"{name} has more than 8 bits per colour, of which 8 are read in {file.format} files: save it as PNG, or write "
        "`bits = 8`"
    )


def _read_png(file: DeepFile, imagecodecs: Any) -> StoredImage:
    data = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
    try:
        values: NDArray[Any] = imagecodecs.png_decode(data)
    except Exception as error:  # of damaged files it raises its own errors and ValueError
        raise UnreadableError(f"damaged ({error})") from error
    values = values[:, :, None] if values.ndim == 2 else values
    return StoredImage(_upright(values, file.orientation), alpha=values.shape[2] in (2, 4))


def read_tiff(source: Path | bytes) -> StoredImage:
    """Return the first page of a TIFF file, (H, W, C) of any numbers, upright, by tifffile, which has to be there.

    Raises:
        UnreadableError: damaged, or in a colour space that is not read.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            page, pages = file.pages.first, len(file.pages)
            header = _header_of(page)
            values = _channels_last(page.asarray(), page.axes)
            if page.photometric.name == "MINISWHITE":
                values = np.iinfo(values.dtype).max - values
            if header.alpha and page.extrasamples[-1].name == "ASSOCALPHA":
                values = _unmultiplied(values)
            tag = page.tags.get("Orientation")
            upright = _upright(values, int(tag.value) if tag is not None else 1)
            return StoredImage(upright, header.alpha, frames=pages)
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
