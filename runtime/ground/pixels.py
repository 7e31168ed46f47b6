"""Raw pixel values, the whole numbers 0 … 2^bits - 1 (or the real ones) that data come in: their bits, and as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from hvdsl.compiler.settings import Data


REAL = 0
"""What stands for the bits of real numbers, which have none."""


def pixel_bits(data: Data) -> int:
    """Bits of a raw pixel value as the model sees it: binarised data has one, real numbers have 0."""
    if data.is_real:
        return REAL
    return data.bits if data.binarize == "none" else 1


def as_stored(pixels: Tensor, data: Data) -> Tensor:
    """Pixel values as data have them: rounded to whole numbers, unless they are real ones."""
    return pixels if data.is_real else pixels.round()


def as_mean(pixels: Tensor, data: Data) -> Tensor:
    """Expected pixel values as they are given out: whole numbers, too, but of pixels that are 0 or 1 what is between.

    Rounded, these would say which value is likelier and no more.
    """
    return pixels if pixel_bits(data) == 1 else as_stored(pixels, data)


def touched(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which cells of a grid `(H', W')` have a pixel of a mask `(H, W)` under them, bool."""
    return F.adaptive_max_pool2d(mask.float()[None, None], grid)[0, 0] > 0


def to_bytes(images: Tensor, bits: int) -> NDArray[np.uint8]:
    """Raw pixel values 0 … 2^bits - 1, `(N, C, H, W)`, as `(N, H, W, 3)` bytes to look at.

    Real numbers are shown from the least of these images to the largest. One channel becomes grey; of four channels
    the first three are shown, of two or more than four the first.
    """
    values = images.detach().float().cpu()
    if bits == REAL:
        low, high = values.min(), values.max()
        values = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    levels = 2**bits - 1 if bits != REAL else 1
    scaled = (values.clamp(0, levels) * (255 / levels)).round().to(torch.uint8)
    if scaled.shape[1] == 4:
        scaled = scaled[:, :3]
    if scaled.shape[1] != 3:
        scaled = scaled[:, :1].expand(-1, 3, -1, -1)
    pixels: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels
