"""Weight normalisation (Salimans & Kingma 2016): a weight as a direction and a gain per output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """w = g · v / (‖v‖ + eps), ‖·‖ over all but the output channel; `gain` says whether g or log g is the parameter.

    `scale` multiplies the first gain. A linear gain starts at ‖v‖, so that w starts as v; a logarithmic one at
    log(‖v‖ + 0.01), as in NVAE (Vahdat & Kautz 2020), which also keeps a weight of zeros finite. With `start`, the
    phase before training sets gain and bias so that each channel leaves with that deviation on the first batch: see
    `hvdsl.runtime.training.start_from_batch`.
    """

    gain: Literal["linear", "log"] = "linear"
    eps: float = 0.0
    scale: float = 1.0
    start: float | None = None

    def weight(self, direction: Tensor, gain: Tensor, channel_axis: int) -> Tensor:
        """The weight in use, from v and a gain that broadcasts to it."""
        factor = gain.exp() if self.gain == "log" else gain
        return direction * (factor / (norm(direction, channel_axis) + self.eps))

    def first_gain(self, direction: Tensor, channel_axis: int) -> Tensor:
        """The gain that goes with a first v."""
        lengths = norm(direction, channel_axis)
        return torch.log((lengths + 0.01) * self.scale) if self.gain == "log" else lengths * self.scale


def norm(direction: Tensor, channel_axis: int) -> Tensor:
    """‖v‖₂ per output channel, kept broadcastable."""
    axes = tuple(i for i in range(direction.dim()) if i != channel_axis)
    lengths: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return lengths
