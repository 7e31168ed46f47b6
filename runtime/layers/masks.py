"""Causal masks: which kernel elements of a convolution take part (van den Oord, Kalchbrenner & Kavukcuoglu 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Causal:
    """Keep what precedes the output's own position in raster order, and at that position the channels `at`.

    `exclude` keeps none of them (type A), `all` every one (type B); `before` the input channels before the output
    channel, `upto` those and its own: in equal blocks where the counts differ. `mirror` turns space, not channels.
    """

    at: Literal["exclude", "before", "upto", "all"]
    mirror: bool = False

    def mask(
        self,
        weight: tuple[int, ...],
        groups: int,
        padding: tuple[int, int, int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        """Ones and zeros that broadcast to a weight of shape `(out, in / groups, h, w)`.

        `padding` (top, bottom, left, right) says which element lies on the output's own position.
        """
        out, channels, height, width = weight
        rows = torch.arange(height)[:, None] * dilation[0] - padding[0]
        columns = torch.arange(width)[None, :] * dilation[1] - padding[2]
        own = (rows == 0) & (columns == 0)
        before = (rows < 0) | ((rows == 0) & (columns < 0))
        after = ~(before | own)
        mask = (after if self.mirror else before)[None, None] | (own & self._at_own(out, channels, groups))
        return mask.to(torch.get_default_dtype())

    def _at_own(self, out: int, channels: int, groups: int) -> Tensor:
        """`(out, in / groups, 1, 1)`, or one element where all channels fare alike."""
        if self.at in ("exclude", "all"):
            return torch.tensor(self.at == "all").reshape(1, 1, 1, 1)
        inputs = channels * groups
        blocks = min(inputs, out)
        block_of_output = torch.arange(out) * blocks // out
        first = torch.arange(out) // (out // groups) * channels  # of the inputs that the output's group holds
        block_of_input = (first[:, None] + torch.arange(channels)) * blocks // inputs
        limit = block_of_output[:, None]
        kept = block_of_input < limit if self.at == "before" else block_of_input <= limit
        return kept[:, :, None, None]
