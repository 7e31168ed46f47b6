"""Attention over the positions of a map."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Scaled dot-product attention of every position over all, in `heads` equal parts of the channels (Vaswani 2017).

    Takes queries `(N, D, H, W)`, keys `(N, D, H', W')` and values `(N, C, H', W')`; returns `(N, C, H, W)`. Scores are
    scaled by 1 / sqrt(D / heads). `causal` looks only at what precedes in raster order, `strict` without and
    `inclusive` with the own position; under `strict` the first position sees nothing and its output is zero. In
    training, weights are dropped with probability `dropout`.
    """

    def __init__(
        self, heads: int = 1, *, causal: Literal["strict", "inclusive"] | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = map(self._split, (query, key, value))
        drop = self.dropout if self.training else 0.0
        if self.causal != "strict":
            seen = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=self.causal == "inclusive")
        else:
            # Query i may see keys 0 … i - 1: without the first query and the last key that is the inclusive form.
            later = F.scaled_dot_product_attention(
                q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], dropout_p=drop, is_causal=True
            )
            seen = torch.cat((torch.zeros_like(v[:, :, :1]), later), 2)
        return seen.transpose(2, 3).reshape(len(value), value.shape[1], *query.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` as `(N, heads, H W, C / heads)`."""
        return x.reshape(x.shape[0], self.heads, x.shape[1] // self.heads, -1).transpose(2, 3)

    def extra_repr(self) -> str:
        return f"{self.heads}, causal={self.causal}, dropout={self.dropout}"
