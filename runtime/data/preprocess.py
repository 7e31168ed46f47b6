"""From a stored image to the pixel values that a spec speaks of.

In this order: transparency, depth, grey or colour, crop, resize, pad, shift, random crop, bits, binarize, flip. Every
random choice is a function of (split seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data, RandomCrop, Resize
from hvdsl.runtime.data.deep import read_deep
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.picture import DeepFile, StoredImage

_BACKGROUNDS = {"white": 1.0, "black": 0.0, "grey": 0.5}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's own conversion of 8-bit images
_FLIP, _BINARIZE, _SHIFT, _CROP, _ACCESS = 1, 2, 5, 6, 7  # streams; 3 and 4 are the crops of `photos`


def random(*key: int) -> np.random.Generator:
    """Return the generator that belongs to a key such as (seed, epoch, index)."""
    return np.random.default_rng(key)


class Preprocess:
    """The `data` section's steps, as a function of (image, epoch, index), and of the training step where each access
    of an image is to differ.

    Args:
        tell: Called with a sentence and the image's name where something was done that the user may not expect: each
            kind once.
    """

    def __init__(
        self, settings: Data, *, training: bool, tell: Callable[[str, str], None] = lambda kind, sentence: None
    ) -> None:
        self._settings, self._training, self._tell = settings, training, tell

    def __call__(
        self, raster: StoredImage, epoch: int, index: int, name: str = "an image", step: int = 0
    ) -> NDArray[Any]:
        """Map (H, W, C) to (C, H, W): uint8 (uint16 above 8 bits) 0 … 2^bits − 1, 0 or 1 when binarized; float32 of
        real numbers.

        Raises:
            DataError: the image does not fit the settings; the message has its name, its range and the line to write.
        """
        settings = self._settings
        if raster.frames > 1:
            self._tell("frames", f"{name} has {raster.frames} frames: the first is taken")
        if raster.profile:
            self._tell("profile", f"{name} has an ICC profile: it is ignored, colours are taken as their numbers stand")
        if raster.deep is not None:
            raster = self._deep(raster, raster.deep, name)
        raster = self._reduced(raster)
        image, opacity = self._opacity(raster, name)
        image = self._depth(image, name)
        image = self._channels(image, settings.shape[0] - (opacity is not None), name)
        if opacity is not None:
            image = np.concatenate([image, self._depth(opacity, name)], axis=2)
        image = self.geometry(image, epoch, index, name)
        pixels = image.transpose(2, 0, 1)
        if not settings.is_real:
            if settings.bits < 8 and settings.values == "scaled":
                pixels = pixels >> (8 - settings.bits)
            pixels = self._binarize(pixels, epoch, index, step).astype(np.uint8 if settings.bits <= 8 else np.uint16)
        return np.ascontiguousarray(pixels)

    def geometry(self, image: NDArray[Any], epoch: int, index: int, name: str) -> NDArray[Any]:
        """Crop, resize, pad, shift, crop at random and flip (H, W, C): the same for everything that has places."""
        settings = self._settings
        if isinstance(settings.crop, tuple):
            left, top, right, bottom = settings.crop
            h, w = image.shape[:2]
            if bottom > h or right > w:
                raise DataError(
                    f"{name} is {h}x{w}, and `crop = {settings.crop}` reaches to {bottom}x{right}: lower it, or leave "
                    "the image out"
                )
            image = image[top:bottom, left:right]
        image = self._resize(image)
        if settings.pad:
            top, bottom, left, right = settings.borders
            image = np.pad(image, ((top, bottom), (left, right), (0, 0)))
        if settings.shift and self._training:
            image = _shifted(image, settings.shift, random(settings.split_seed, epoch, index, _SHIFT))
        if isinstance(settings.crop, RandomCrop):
            image = self._window(image, settings.crop.size, epoch, index, name)
        return self.flipped(image, epoch, index)

    @property
    def moves(self) -> bool:
        """Whether anything but a flip moves pixels: then only what is as large as the image can follow it."""
        settings = self._settings
        return bool(settings.crop is not None or settings.pad or (settings.shift and self._training))

    def flipped(self, image: NDArray[Any], epoch: int, index: int) -> NDArray[Any]:
        """(H, W, C) as it is, or mirrored where the image is."""
        settings = self._settings
        if settings.flip and self._training and random(settings.split_seed, epoch, index, _FLIP).random() < 0.5:
            return image[:, ::-1]
        return image

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that `geometry` gives an image of this size."""
        settings = self._settings
        if isinstance(settings.crop, RandomCrop):
            return settings.crop.size
        known = settings.size_before_random_crop
        top, bottom, left, right = settings.borders
        return known if known is not None else (height + top + bottom, width + left + right)

    def _reduced(self, raster: StoredImage) -> StoredImage:
        """A picture cut to the proportions and scaled at once, where nothing that comes before would change that.

        The same pixels as by `_resize`, without an array of the picture's full size.
        """
        settings, picture = self._settings, raster.picture
        if (
            picture is None
            or raster.alpha
            or not isinstance(settings.resize, tuple)
            or isinstance(settings.crop, tuple)
        ):
            return raster
        turns_grey = picture.mode == "RGB" and settings.shape[0] < len(_LUMA)
        if settings.values != "scaled" or settings.bits > 8 or picture.mode not in ("L", "RGB") or turns_grey:
            return raster
        (height, width), (top, left, h, w) = settings.resize, _middle_of(picture.height, picture.width, settings.resize)
        if (h, w) != (picture.height, picture.width):
            picture = picture.crop((left, top, left + w, top + h))
        if (h, w) != (height, width):
            picture = picture.resize((width, height), Pillow.Resampling.BILINEAR)
        return StoredImage(picture)

    def _deep(self, raster: StoredImage, file: DeepFile, name: str) -> StoredImage:
        """The image with as many bits of its colours as the settings take, or with the numbers in its file."""
        settings, scales = self._settings, self._settings.values == "scaled"
        if scales and not file.cut:
            return raster
        if scales and settings.bits <= 8:
            self._tell(
                "depth", f"{name} has more than 8 bits per colour: `bits = {settings.bits}` takes the upper ones"
            )
            return raster
        return read_deep(file, name, to_16_bits=scales)

    def _opacity(self, raster: StoredImage, name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Put the image on its background, or drop the opacity, or keep it beside the colours."""
        image, background = native(raster.values), self._settings.background
        if not raster.alpha and self._settings.alpha != "channel":
            return image, None
        if not raster.alpha:
            return image, np.full((*image.shape[:2], 1), raster.top, image.dtype)
        colours, opacity = image[:, :, :-1], image[:, :, -1:]
        if background == "channel":
            return colours, opacity
        top = raster.top
        if background == "drop" or bool((opacity == top).all()):
            return colours, None
        self._tell("alpha", f"{name} is not opaque: it is put on {background} (`alpha = {background}` in `data`)")
        share = opacity.astype(np.int64)
        mixed = colours.astype(np.int64) * share + round(_BACKGROUNDS[background] * top) * (top - share)
        return ((mixed + top // 2) // top).astype(image.dtype), None

    def _depth(self, image: NDArray[Any], name: str) -> NDArray[Any]:
        """Bring an image to `max(bits, 8)` bits, take its levels as they are, or its numbers as real ones."""
        settings = self._settings
        top = 2**settings.bits - 1
        if settings.is_real:
            numbers = image.astype(np.float32)
            if not np.isfinite(numbers).all():
                raise DataError(f"{name} holds {_unfinite(image)}: replace what is not a finite number")
            return numbers
        if settings.values == "levels":
            if image.dtype.kind not in "ub" and not (image.dtype.kind == "i" and image.min(initial=0) >= 0):
                raise DataError(f"{name} holds {_range(image)}: `values = levels` are whole numbers 0 … {top}")
            if image.max(initial=0) > top:
                raise DataError(
                    f"{name} has values up to {image.max()}: `values = levels` with `bits = {settings.bits}` are "
                    f"0 … {top}; write `bits = {int(image.max()).bit_length()}`"
                )
            return image.astype(np.uint8 if settings.bits <= 8 else np.uint16)
        if image.dtype not in (np.uint8, np.uint16):
            if image.dtype.kind == "f" and not np.isfinite(image).all():
                raise DataError(f"{name} holds {_unfinite(image)}: replace what is not a finite number")
            raise DataError(f"{name} holds {_range(image)}: {_line_for(image)}")
        if image.dtype == np.uint16:
            return (image >> (16 - max(settings.bits, 8))).astype(np.uint8 if settings.bits <= 8 else np.uint16)
        if settings.bits > 8:
            raise DataError(
                f"{name} does not serve `bits = {settings.bits}`: it has 8 bits; write `bits = 8`, or "
                "`values = levels` if its numbers are to be taken as they are"
            )
        return image

    def _channels(self, image: NDArray[Any], wanted: int, name: str) -> NDArray[Any]:
        """Make grey out of colour or colour out of grey where the spec wants the other."""
        channels = image.shape[2]
        if channels == wanted:
            return image
        if channels == 1 and wanted == 3:
            self._tell("grey", f"{name} is grey: its channel is repeated for `shape = 3x…`")
            return np.repeat(image, 3, axis=2)
        if channels == 3 and wanted == 1:
            self._tell("colour", f"{name} is in colour: `shape = 1x…` takes its luminance")
            if image.dtype == np.uint8:
                return np.asarray(Pillow.fromarray(np.ascontiguousarray(image)).convert("L"))[:, :, None]
            grey = (image * np.asarray(_LUMA, np.float32)).sum(axis=2, keepdims=True)
            return np.asarray(grey if image.dtype.kind == "f" else np.rint(grey), image.dtype)
        raise DataError(
            f"{name} has {_count(channels, 'channel')}, the spec's data section wants {wanted}: write "
            f"`shape = {channels}x{self._settings.shape[1]}x{self._settings.shape[2]}`"
            + (", or `alpha = channel` to add an opaque one" if channels + 1 == wanted else "")
        )

    def _resize(self, image: NDArray[Any]) -> NDArray[Any]:
        resize = self._settings.resize
        if resize is None:
            return image
        if not isinstance(resize, Resize):
            return resized(_middle(image, resize), resize)
        if resize.kind == "stretch":
            return resized(image, resize.size)
        height, width = resize.size
        factor = min(height / image.shape[0], width / image.shape[1])
        inner = (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        around = ((top, height - inner[0] - top), (left, width - inner[1] - left), (0, 0))
        return np.pad(resized(image, inner), around)

    def _window(self, image: NDArray[Any], size: tuple[int, int], epoch: int, index: int, name: str) -> NDArray[Any]:
        spare = (image.shape[0] - size[0], image.shape[1] - size[1])
        if min(spare) < 0:
            raise DataError(
                f"{name} is {image.shape[0]}x{image.shape[1]}, smaller than `crop = random({size[0]}x{size[1]})`: "
                "`resize` it, or `pad` it"
            )
        top, left = spare[0] // 2, spare[1] // 2
        if self._training:
            rng = random(self._settings.split_seed, epoch, index, _CROP)
            top, left = int(rng.integers(spare[0] + 1)), int(rng.integers(spare[1] + 1))
        return image[top : top + size[0], left : left + size[1]]

    def _binarize(self, pixels: NDArray[Any], epoch: int, index: int, step: int) -> NDArray[Any]:
        settings = self._settings
        top = 2**settings.bits - 1
        if settings.binarize == "threshold":
            return np.asarray(pixels > top / 2)
        if settings.binarize == "bernoulli":
            turn, stream = {"once": (0, _BINARIZE), "epoch": (epoch, _BINARIZE), "access": (step, _ACCESS)}[
                settings.binarize_every
            ]
            uniform = random(settings.split_seed, turn, index, stream).random(pixels.shape)
            return np.asarray(uniform * top < pixels)
        return pixels


def resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Scale (H, W, C) to (height, width), bilinear with anti-aliasing; more than 8 bits in float32."""
    if image.shape[:2] == size:
        return image
    height, width = size
    deep = image.dtype != np.uint8
    if not deep and image.shape[2] == 3:  # at once what the planes would be one by one
        colours = Pillow.fromarray(np.ascontiguousarray(image))
        return np.asarray(colours.resize((width, height), Pillow.Resampling.BILINEAR))
    planes = [
        np.asarray(
            Pillow.fromarray(np.ascontiguousarray(image[:, :, c], np.float32 if deep else np.uint8)).resize(
                (width, height), Pillow.Resampling.BILINEAR
            )
        )
        for c in range(image.shape[2])
    ]
    result = np.stack(planes, axis=2)
    return np.rint(result).astype(image.dtype) if image.dtype.kind == "u" and deep else result


def _middle(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The middle of an image, as large as it can be in the proportions of (height, width)."""
    top, left, height, width = _middle_of(image.shape[0], image.shape[1], size)
    return image[top : top + height, left : left + width]


def _middle_of(h: int, w: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the middle of (h, w), as large as it can be in the proportions of `size`."""
    height, width = size
    if h * width > w * height:
        cut = max(1, w * height // width)
        return (h - cut) // 2, 0, cut, w
    cut = min(w, max(1, h * width // height))
    return 0, (w - cut) // 2, h, cut


def _shifted(image: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Move an image by up to `most` pixels each way; its edge is repeated into what it leaves."""
    down, right = (int(n) for n in rng.integers(-most, most + 1, 2))
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), mode="edge")
    h, w = image.shape[:2]
    return padded[most - down : most - down + h, most - right : most - right + w]


def native(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's order of bytes."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _unfinite(image: NDArray[Any]) -> str:
    return "NaN" if np.isnan(image).any() else "an infinity"


def _range(image: NDArray[Any]) -> str:
    return f"{image.dtype} from {float(image.min()):.6g} to {float(image.max()):.6g}"


def _line_for(image: NDArray[Any]) -> str:
    """The line that makes numbers of this range readable."""
    if image.dtype.kind == "f":
        return "write `values = real` in `data` (with a likelihood for real numbers), or store 0 … 255 as uint8"
    most = int(image.max(initial=0))
    if image.min(initial=0) >= 0 and most < 1 << 16:
        return f"write `values = levels, bits = {max(1, most.bit_length())}` in `data`, or store them as uint8"
    return "write `values = real` in `data` (with a likelihood for real numbers)"
