"""One image in one file of a folder: a picture, or an array in `.npy`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from hvdsl.runtime.data.deep import read_tiff, read_tiff_header
from hvdsl.runtime.data.picture import FORMATS, ImageHeader, StoredImage, UnreadableError, read_header, read_picture
from hvdsl.runtime.ground.disk import DiskError, read_array

SUFFIXES = frozenset(s for s, format in Pillow.registered_extensions().items() if format in FORMATS) | {".npy"}
_TIFF = (".tif", ".tiff")


def header_of(path: Path) -> ImageHeader:
    """Return what the head of an image file says. Raises UnreadableError."""
    if path.suffix.lower() == ".npy":
        height, width, channels = (array := _array(path)).shape
        return ImageHeader(height, width, channels, False, str(array.dtype))
    try:
        return read_header(path)
    except UnreadableError as error:
        _need_tifffile(path, error)
        return read_tiff_header(path)


def read_image(path: Path) -> StoredImage:
    """Return the image of a file. Raises UnreadableError."""
    if path.suffix.lower() == ".npy":
        return StoredImage(np.array(_array(path)))
    try:
        return read_picture(path)
    except UnreadableError as error:
        _need_tifffile(path, error)
        return read_tiff(path)


def _need_tifffile(path: Path, error: UnreadableError) -> None:
    """Pass for a TIFF file that Pillow cannot read, where tifffile is there to try; raise the error for others."""
    if path.suffix.lower() not in _TIFF or error.kind != "damaged":
        raise error
    if find_spec("tifffile") is None:
        raise UnreadableError(f"{error} (tifffile, which reads more, is not installed)", kind=".tif (unreadable)")


def _array(path: Path) -> NDArray[Any]:
    try:
        return _as_image(read_array(path))
    except (FileNotFoundError, DiskError) as error:
        raise UnreadableError(f"not an array file ({getattr(error, 'reason', error)})") from error


def _as_image(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W), (H, W, C) or (C, H, W) as (H, W, C): the shortest outer axis is that of the channels."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        raise UnreadableError(f"{array.dtype} of shape {array.shape} is no image (H, W), (H, W, C) or (C, H, W)")
    return array.transpose(1, 2, 0) if array.shape[0] < min(array.shape[1:]) else array
