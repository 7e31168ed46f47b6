"""Masks that make a convolution causal in raster order (van den Oord 2016; channel blocks after Kingma 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

At = Literal["exclude", "before", "upto", "all"]


@dataclass(frozen=True, slots=True)
class CausalMask:
    """Which kernel elements take part: those before the output's position in raster order and, at it, some channels.

    `at` says which: `exclude` none, `before` the earlier ones, `upto` the earlier and the own, `all`. Where input and
    output differ in number, the larger number counts in blocks, one for each channel of the other. `mirror` turns
    space (what comes after, instead of before), never the channels.
    """

    at: At
    mirror: bool = False

    def kept(
        self, weight: tuple[int, ...], before: tuple[int, int], dilation: tuple[int, int], groups: int = 1
    ) -> Tensor:
        """1 where an element of a weight `(out, in / groups, h, w)` takes part, else 0.

        `before` is the padding above and to the left: with stride 1, kernel element (i, j) sees the position
        (i · dilation - above, j · dilation - left) away.

        Raises:
            ValueError: channels are counted and neither number divides the other.
        """
        out_channels, in_channels, height, width = weight
        down = torch.arange(height, device="cpu")[:, None] * dilation[0] - before[0]
        right = torch.arange(width, device="cpu")[None, :] * dilation[1] - before[1]
        if self.mirror:
            down, right = -down, -right
        earlier = (down < 0) | ((down == 0) & (right < 0))
        own = (down == 0) & (right == 0)
        channels = self._channels(out_channels // groups, in_channels).repeat(groups, 1)[:, :, None, None]
        return (earlier | (own & channels)).to(torch.get_default_dtype())

    def _channels(self, outputs: int, inputs: int) -> Tensor:
        """Whether an output channel (row) sees an input channel (column) of its own position."""
        if self.at in ("exclude", "all"):
            return torch.full((outputs, inputs), self.at == "all", device="cpu")
        if outputs % inputs and inputs % outputs:
            raise ValueError(f"a mask by channels needs numbers that divide, not {inputs} inputs and {outputs} outputs")
        blocks = min(outputs, inputs)
        to, of = (torch.arange(n, device="cpu") * blocks // n for n in (outputs, inputs))
        return of[None, :] <= to[:, None] if self.at == "upto" else of[None, :] < to[:, None]


def causal(at: At, mirror: bool = False) -> CausalMask:
    """Causal in raster order, or against it if mirrored."""
    return CausalMask(at, mirror)
