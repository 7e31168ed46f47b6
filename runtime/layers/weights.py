"""Forms of a convolution's weight: causal masks, and a direction with a gain.

Masks say which kernel elements take part (van den Oord, Kalchbrenner & Kavukcuoglu 2016); weight normalisation makes a
weight of a direction and a gain per output channel (Salimans & Kingma 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """w = g · v / (‖v‖ + eps), ‖·‖ over all but the output channel; `gain` says whether g or log g is the parameter.

    `scale` multiplies the first gain. A linear gain starts at ‖v‖, so that w starts as v; a logarithmic one at
    log(‖v‖ + 0.01), as in NVAE (Vahdat & Kautz 2020), which also keeps a weight of zeros finite. With `start`, the
    phase before training sets gain and bias so that each channel leaves with that deviation on the first batch: see
    `hvdsl.runtime.training.step.start_from_batch`.
    """

    gain: Literal["linear", "log"] = "linear"
    eps: float = 0.0
    scale: float = 1.0
    start: float | None = None

    def weight(self, direction: Tensor, gain: Tensor, channel_axis: int) -> Tensor:
        """The weight in use, from v and a gain that broadcasts to it."""
        weight: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]  # torch's own
            self, direction, gain, channel_axis
        )
        return weight

    def factor(self, lengths: Tensor, gain: Tensor) -> Tensor:
        """What each row of v is multiplied with, from its length."""
        return (gain.exp() if self.gain == "log" else gain) / (lengths + self.eps)

    def row_gradients(self, projection: Tensor, lengths: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """From p = ∂w · v of each row: what ∂v loses of v beside s ∂w, and the gradient of the gain.

        The first is s p / (‖v‖ (‖v‖ + eps)); the second s p for log g, p / (‖v‖ + eps) for g.
        """
        padded, scaled = lengths + self.eps, projection * scale
        loss = scaled / padded / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)  # 0 where v is
        return loss, scaled if self.gain == "log" else projection / padded

    def first_gain(self, direction: Tensor, channel_axis: int) -> Tensor:
        """The gain that goes with a first v."""
        lengths = norm(direction, channel_axis)
        return torch.log((lengths + 0.01) * self.scale) if self.gain == "log" else lengths * self.scale


class _Normalised(torch.autograd.Function):
    """w = s v with s = g / (‖v‖ + eps); its gradient is written down, in fewer passes than recording it takes.

    With p = Σ ∂w · v over all but the output channel, ∂v = s (∂w - p v / (‖v‖ (‖v‖ + eps))).
    """

    @staticmethod
    def forward(ctx: Any, rule: WeightNorm, direction: Tensor, gain: Tensor, channel_axis: int) -> Tensor:
        lengths = norm(direction, channel_axis)
        scale = rule.factor(lengths, gain)
        ctx.save_for_backward(direction, lengths, scale)
        ctx.rule, ctx.channel_axis = rule, channel_axis
        return direction * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        direction, lengths, scale = ctx.saved_tensors
        projection = (gradient * direction).sum(_others(direction, ctx.channel_axis), keepdim=True)
        loss, of_gain = ctx.rule.row_gradients(projection, lengths, scale)
        return None, (gradient * scale).addcmul_(direction, loss, value=-1), of_gain, None


def norm(direction: Tensor, channel_axis: int) -> Tensor:
    """‖v‖₂ per output channel, kept broadcastable."""
    lengths: Tensor = torch.linalg.vector_norm(direction, dim=_others(direction, channel_axis), keepdim=True)
    return lengths


def _others(direction: Tensor, channel_axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(direction.dim()) if i != channel_axis)
