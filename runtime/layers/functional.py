"""Layers and functions of a few lines: what torch does not say in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.layers.init import Fill, Init, Layer, ones, zeros


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

    Codes `(N, depth, H, W)` are the maps of each depth side by side, `(N, depth classes, H, W)`. A code of -1 is one
    that is not given: zeros. The result is of the type of `like`.
    """
    if codes.dim() == 1:
        codes = codes[:, None, None]
    numbers = torch.arange(classes, device=codes.device)
    if codes.dim() == 4:
        return (codes[:, :, None] == numbers[:, None, None]).flatten(1, 2).to(like.dtype)
    # Channels last: what follows keeps that layout, and dropout draws in the order of memory.
    return (codes[..., None] == numbers).permute(0, 3, 1, 2).to(like.dtype)


def condition(values: Tensor, shape: tuple[int, int, int], like: Tensor) -> Tensor:
    """Numbers `(N, C)` or `(N, C, H, W)` as maps `(N, C, H, W)` of the type of `like`; `shape` is (C, H, W)."""
    return values.reshape(-1, *shape).to(like.dtype)


def with_presence(x: Tensor) -> Tensor:
    """`(N, C, H, W)` with one channel more: 1 where the numbers are given; where they are NaN all channels are 0."""
    known = ~x.isnan().flatten(1).any(1)[:, None, None, None]
    presence = known.to(x.dtype).expand(-1, 1, *x.shape[2:])
    return torch.cat((torch.where(known, x, torch.zeros_like(x)), presence), 1)


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


def gated_mix(z: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """g z + (1 - g) m, g = sigmoid(s), in the type of z: a draw is wider than m and s of a network in 16 bits."""
    return torch.lerp(m.to(z), z, torch.sigmoid(s.to(z)))


class Affine(Layer):
    """gain · x + bias, one of each per channel of `(N, C, H, W)`."""

    def __init__(self, channels: int, *, gain_init: Init | None = None, bias_init: Init | None = None) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))
        self.gain_init, self.bias_init = gain_init or ones(), bias_init or zeros()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.bias

    def initial(self, fill: Fill) -> None:
        fill("gain", self.gain_init, 1)
        fill("bias", self.bias_init, 1)


class Learned(Layer):
    """A parameter map `(C, H, W)`; `forward(batch)` is that map for each image, `(batch, C, H, W)`, without a copy."""

    def __init__(self, shape: tuple[int, int, int], init: Init | None = None) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(shape))
        self.init = init or zeros()

    def forward(self, batch: int) -> Tensor:
        return self.value.expand(batch, *self.value.shape)

    def initial(self, fill: Fill) -> None:
        fill("value", self.init, self.value[0].numel())


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


class Recipe(nn.Module):
    """Base class of a spec's `cell`, `group` or `shared` instance: what is recomputed, or compiled, as one.

    It computes nothing. A hand-written model whose parts are to be recomputed or compiled derives them from it.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Scope(nn.Module):
    """Holds modules by name, lists as `ModuleList`s, and computes nothing: `Scope(conv=[Conv2d(…)], q=Scope(…))`."""

    def __init__(self, /, **members: nn.Module | Sequence[nn.Module]) -> None:
        super().__init__()
        for name, member in members.items():
            self.add_module(name, member if isinstance(member, nn.Module) else nn.ModuleList(member))

    if TYPE_CHECKING:  # what a scope holds is known to the code that made it, not to its type

        def __getattr__(self, name: str) -> Any: ...


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
        return seen.transpose(2, 3).reshape(value.shape[0], value.shape[1], *query.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` as `(N, heads, H W, C / heads)`."""
        return x.reshape(x.shape[0], self.heads, x.shape[1] // self.heads, -1).transpose(2, 3)

    def extra_repr(self) -> str:
        return f"{self.heads}, causal={self.causal}, dropout={self.dropout}"
