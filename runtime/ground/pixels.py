"""Raw pixel values, the whole numbers 0 … 2^bits - 1 that data come in: how many bits they have, and as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from hvdsl.compiler.settings import Data


def pixel_bits(data: Data) -> int:
    """Bits of a raw pixel value as the model sees it: binarised data has one."""
    return data.bits if data.binarize == "none" else 1


def to_bytes(images: Tensor, bits: int) -> NDArray[np.uint8]:
    """Raw pixel values 0 … 2^bits - 1, `(N, C, H, W)`, as `(N, H, W, 3)` bytes to look at.

    One channel becomes grey; of two channels or more than three, the first is shown.
    """
    levels = 2**bits - 1
    scaled = (images.detach().float().cpu().clamp(0, levels) * (255 / levels)).round().to(torch.uint8)
    if scaled.shape[1] != 3:
        scaled = scaled[:, :1].expand(-1, 3, -1, -1)
    pixels: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels
