"""From a stored image to the pixel values that a spec speaks of: crop, resize, pad, bits, binarize, flip, in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data


def random(*key: int) -> np.random.Generator:
    """Return the generator that belongs to a key such as (seed, epoch, index)."""
    return np.random.default_rng(key)


class Preprocess:
    """The `data` section's steps, as a function of (image, epoch, index)."""

    def __init__(self, settings: Data, *, training: bool) -> None:
        self._settings = settings
        self._training = training

    def __call__(self, image: NDArray[np.uint8], epoch: int, index: int) -> NDArray[np.uint16]:
        """Map (H, W, C) bytes to (C, H, W) values 0 … 2^bits − 1 (0 or 1 when binarized)."""
        settings = self._settings
        image = _channels(image, settings.shape[0])
        if settings.crop is not None:
            left, top, right, bottom = settings.crop
            image = image[top:bottom, left:right]
        if settings.resize is not None:
            image = _resize(image, settings.resize)
        if settings.pad:
            top, bottom, left, right = (settings.pad,) * 4 if isinstance(settings.pad, int) else settings.pad
            image = np.pad(image, ((top, bottom), (left, right), (0, 0)))
        pixels = image.transpose(2, 0, 1).astype(np.uint16)
        pixels = (pixels >> (8 - settings.bits)).astype(np.uint16)
        pixels = self._binarize(pixels, epoch, index)
        if settings.flip and self._training and random(settings.split_seed, epoch, index, 1).random() < 0.5:
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(pixels)

    def _binarize(self, pixels: NDArray[np.uint16], epoch: int, index: int) -> NDArray[np.uint16]:
        settings = self._settings
        top = 2**settings.bits - 1
        if settings.binarize == "threshold":
            return np.asarray(pixels > top / 2, np.uint16)
        if settings.binarize == "bernoulli":
            turn = 0 if settings.binarize_every == "once" else epoch
            uniform = random(settings.split_seed, turn, index, 2).random(pixels.shape)
            return np.asarray(uniform * top < pixels, np.uint16)
        return pixels


def _channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Make grey out of colour or colour out of grey where the spec wants the other; the shape check sees the rest."""
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3 and channels == 1:
        return np.asarray(Pillow.fromarray(image).convert("L"))[:, :, None]
    return image


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (height, width), bilinear with anti-aliasing, after a centre crop to the same proportions."""
    height, width = size
    h, w = image.shape[:2]
    if h * width > w * height:
        cut = w * height // width
        image = image[(h - cut) // 2 : (h - cut) // 2 + cut]
    elif h * width < w * height:
        cut = h * width // height
        image = image[:, (w - cut) // 2 : (w - cut) // 2 + cut]
    if image.shape[:2] == size:
        return image
    planes = [
        np.asarray(Pillow.fromarray(image[:, :, c]).resize((width, height), Pillow.Resampling.BILINEAR))
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)
