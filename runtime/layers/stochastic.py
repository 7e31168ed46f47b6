"""Layers that are random in training only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """In training, sets entries to zero with probability `p` and divides the others by 1 - p (Srivastava et al. 2014).

    `whole_channels` drops channels instead of entries.
    """

    def __init__(self, p: float, *, whole_channels: bool = False) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"a dropout probability is at least 0 and below 1, not {p}")
        super().__init__()
        self.p, self.whole_channels = p, whole_channels

    def forward(self, x: Tensor) -> Tensor:
        drop = F.dropout2d if self.whole_channels else F.dropout
        return drop(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"{self.p}"
