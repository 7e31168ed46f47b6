"""Stateless operations that torch does not say in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def shift(x: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """Move `(N, C, H, W)` down and to the right (up and left where negative); zeros enter, what leaves is lost."""
    return F.pad(x, (right, -right, down, -down))


def coordinates(x: Tensor) -> Tensor:
    """(row - H / 2) / H and (column - W / 2) / W of each position of `(N, C, H, W)`, as `(N, 2, H, W)`."""
    batch, _, height, width = x.shape
    rows = (torch.arange(height, device=x.device, dtype=x.dtype) - height / 2) / height
    columns = (torch.arange(width, device=x.device, dtype=x.dtype) - width / 2) / width
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return grid.expand(batch, 2, height, width)


def one_hot(codes: Tensor, classes: int, like: Tensor) -> Tensor:
    """Codes `(N, H, W)` as maps `(N, classes, H, W)` of zeros and ones; classes `(N,)` as `(N, classes, 1, 1)`.

    A code of -1 is one that is not given: zeros. The result is of the type of `like`.
    """
    if codes.dim() == 1:
        codes = codes[:, None, None]
    numbers = torch.arange(classes, device=codes.device)[:, None, None]
    return (codes[:, None] == numbers).to(like.dtype)


def avg_pool(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: Sequence[int] = (0, 0, 0, 0)
) -> Tensor:
    """Mean of each window of `(N, C, H, W)`. What `padding` (top, bottom, left, right) adds is not counted."""
    top, bottom, left, right = padding
    if not any(padding):
        return F.avg_pool2d(x, kernel, stride)
    border = (left, right, top, bottom)
    inside = F.pad(torch.ones_like(x[:1, :1]), border)
    return F.avg_pool2d(F.pad(x, border), kernel, stride) / F.avg_pool2d(inside, kernel, stride)
