"""Elementwise functions as they are fast, and in which precision they are computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), with the exact normal distribution function (Hendrycks and Gimpel 2016).

    On a CPU torch gives it to oneDNN, which takes half of the time, where the tensor is contiguous. Channels-last maps
    `(N, C, H, W)` are, once their axes are in the order of memory; so they are handed over in that order.
    """
    if x.dim() == 4 and x.device.type == "cpu" and not x.is_contiguous() and not torch.compiler.is_compiling():
        return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return F.gelu(x)


def low_precision(x: Tensor) -> Tensor:
    """The tensor in bf16 where products run in bf16 (`torch.autocast`); elsewhere as it is.

    For what is computed element by element and read by products alone, which would cast its result: half of the bytes
    are then read, written and kept. Not in fp16: there large values become infinite before they are computed with.
    """
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # `meta` has none
        return x
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
        return x.to(torch.bfloat16)
    return x
