"""Images from outside as a model's raw pixel values, and back: arrays, tensors, files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.data.conditions import open_fields
from hvdsl.runtime.data.dataset import Dataset
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.hub import is_hub_name
from hvdsl.runtime.data.open import open_given
from hvdsl.runtime.data.picture import StoredImage, UnreadableError
from hvdsl.runtime.data.stored import read_image
from hvdsl.runtime.ground.pixels import pixel_bits

ImagesLike = NDArray[Any] | Tensor | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Raw pixel values `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`, or image files, or one folder of them."""

MaskLike = NDArray[Any] | str | os.PathLike[str]
"""Where pixels are drawn anew, `(H, W)`, or a picture of that size: everything but 0 or black."""


class GivenImages:
    """Raw pixel values `(N, C, H, W)` that were given, and fields beside them, as evaluation reads a data set."""

    name = "the given images"

    def __init__(self, pixels: Tensor, fields: Mapping[str, Tensor] | None = None) -> None:
        self.pixels, self.fields = pixels, fields or {}

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> NDArray[Any]:
        return self.pixels[list(indices)].numpy()

    def conditioned(
        self, indices: Sequence[int], fields: Sequence[str], epoch: int = 0, step: int = 0
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        chosen = list(indices)
        return self.batch(chosen), {name: self.fields[name][chosen].numpy() for name in fields}


class _Files:
    """Image files in a given order, as a data set stores images."""

    labelled_by = "the folders of classes"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int, epoch: int) -> StoredImage:
        path = self._paths[index]
        if not path.exists():
            raise DataError(f"there is no image {path}")
        try:
            return read_image(path)
        except UnreadableError as error:
            raise DataError(f"{path} cannot be read as an image ({error})") from error

    def label(self, index: int) -> int | None:
        return None

    def name(self, index: int) -> str:
        return str(self._paths[index])


def read_mask(mask: MaskLike, size: tuple[int, int]) -> Tensor:
    """Return where pixels are drawn anew, `(H, W)` bool: everything but 0 or black.

    Args:
        mask: an array, a picture, or an `.npy` file.
        size: height and width of the images.

    Raises:
        HvdslError: it cannot be read, or is of another size.
    """
    values, name = mask, "the mask"
    try:
        if isinstance(values, str | os.PathLike):
            name = f"the mask {os.fspath(values)}"
            values = _brightest(read_image(Path(values)))
    except UnreadableError as error:
        raise HvdslError(f"{name} cannot be read as a picture ({error})") from error
    values = np.asarray(values)
    if values.shape != size:
        there = "x".join(map(str, values.shape))
        raise HvdslError(f"{name} is {there}; the images are {size[0]}x{size[1]}: resize it")
    return torch.from_numpy(values > 0)


def _brightest(raster: StoredImage) -> NDArray[Any]:
    """The brightest channel of each pixel; what is transparent is 0."""
    shown = raster.values[:, :, :-1] * (raster.values[:, :, -1:] > 0) if raster.alpha else raster.values
    brightest: NDArray[Any] = shown.max(axis=2)
    return brightest


def raw_pixels(images: ImagesLike, data: Data) -> Tensor:
    """Return images as raw pixel values `(N, C, H, W)`, float32 on the CPU, in the units of the spec's `data` section.

    Files go through that section's steps (crop, resize, bits, …), as in evaluation; arrays are taken as they are.

    Raises:
        DataError: a file cannot be read, or an array has another shape, type or range than the spec says.
    """
    dataset = dataset_of(images, data)
    if dataset is not None:
        return torch.from_numpy(dataset.batch(range(len(dataset))).astype(np.float32))
    if isinstance(images, Tensor):
        return _checked(images.detach().cpu(), data)
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "uif":
        raise DataError(f"images are numbers, and these are {getattr(images, 'dtype', type(images).__name__)}")
    return _checked(torch.from_numpy(np.array(images)), data)


def dataset_of(
    images: ImagesLike, data: Data, classes: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Dataset | None:
    """Return image files, or a folder of them, as a data set; None for arrays.

    Args:
        classes: By field, the names of classes that a model was trained with.

    Raises:
        DataError: there are none, or they do not fit.
    """
    if isinstance(images, Tensor | np.ndarray):
        return None
    if isinstance(images, str | os.PathLike):
        if _holds_many(Path(images)):
            return open_given(data, Path(images), classes=classes)
        images = [images]
    paths = [Path(path) for path in images]
    if not paths:
        raise DataError("there are no images")
    files = _Files(paths)
    fields = open_fields(data, files, paths[0].parent, classes)
    return Dataset("the given files", files, data, training=False, fields=fields)


def image_names(images: ImagesLike, count: int) -> list[str]:
    """Return what given images are called: by their files, or by their places."""
    if isinstance(images, str | os.PathLike):
        images = [images]
    if isinstance(images, Sequence) and len(images) == count:
        return [os.fspath(path) for path in images]
    return [f"image {i}" for i in range(count)]


def _holds_many(path: Path) -> bool:
    return path.is_dir() or is_hub_name(path) or (path.suffix in (".npy", ".npz", ".lmdb") and path.exists())


def _checked(pixels: Tensor, data: Data) -> Tensor:
    if data.is_real:
        if pixels.is_complex() or not bool(torch.isfinite(pixels).all()):
            raise DataError("images hold NaN, an infinity or complex numbers: replace what is not a finite number")
        return _some(_channels_first(pixels.to(torch.float32), data.shape))
    top = 2 ** pixel_bits(data) - 1
    if pixels.is_floating_point() or pixels.is_complex():
        kind = str(pixels.dtype).removeprefix("torch.")
        raise DataError(
            f"images of type {kind} are refused: raw pixel values are whole numbers 0 … {top}, and values in [0, 1] "
            "would be scored as nearly black; give them as uint8"
        )
    pixels = _some(_channels_first(pixels.to(torch.int32), data.shape))  # few operations take uint16
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > top:
        raise DataError(
            f"pixel values run from {low} to {high}; this model's data have {pixel_bits(data)} bits, 0 … {top}: "
            "map them first, or give image files, which are mapped as the spec says"
        )
    return pixels.to(torch.float32)


def _some(pixels: Tensor) -> Tensor:
    if len(pixels) == 0:
        raise DataError("there are no images")
    return pixels


def _channels_first(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return `(N, C, H, W)` from any of the three forms; where two fit, it is that one already."""
    channels, height, width = shape
    if tuple(pixels.shape[1:]) == shape:
        return pixels
    if tuple(pixels.shape[1:]) == (height, width, channels):
        return pixels.movedim(-1, 1)
    if tuple(pixels.shape[1:]) == (height, width) and channels == 1:
        return pixels[:, None]
    forms = [f"(N, {channels}, {height}, {width})", f"(N, {height}, {width}, {channels})"]
    forms += [f"(N, {height}, {width})"] if channels == 1 else []
    alone = tuple(pixels.shape) in (shape, (height, width, channels), (height, width))
    help = "; give one image a first axis of length 1" if alone else ""
    raise DataError(f"images of shape {tuple(pixels.shape)} do not fit the model: it takes {' or '.join(forms)}{help}")


def as_pixels(images: Tensor, data: Data, *, mean: bool = False) -> Tensor:
    """Return raw pixel values as whole numbers: uint8, or uint16 above 8 bits; real numbers as float32.

    Args:
        mean: they are expected values, which of pixels that are 0 or 1 are float32 between (see `as_mean`).
    """
    bits = pixel_bits(data)
    if data.is_real:
        return images.to(torch.float32)
    if mean and bits == 1:
        return images.clamp(0, 1).to(torch.float32)
    return images.round().clamp(0, 2**bits - 1).to(torch.uint8 if bits <= 8 else torch.uint16)
