"""One discretised logistic for each pixel and channel (Kingma et al. 2016)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hvdsl.runtime.distributions import ScaleMap
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32
from hvdsl.runtime.layers.init import Fill, Layer, zeros
from hvdsl.runtime.likelihoods.logistic_bins import exact_log_mass

STREAM = "likelihood.logistic"
_MARGIN = 1e-5  # keeps log u and log(1 - u) finite


class DiscretizedLogistic(Layer):
    """The mass of the bin of width `bin` around the target, under a logistic of its own in each pixel and channel.

    Args:
        bits: Of the target's grid.
        scale: Raw scale to scale; `params` is then `(N, 2C, H, W)`, means and raw scales. None: one learned log-scale
            for all, and `params` is the means.
        bin: In the target's units.
        bins: `exact`: those at -1 and 1 take the tails, too. `open`: every bin is only as wide as it is.
        lower: The least log-scale.
        at_least: Added to a bin's probability before the logarithm.
    """

    density = True

    def __init__(
        self,
        *,
        bits: int,
        bin: float,
        scale: ScaleMap | None = None,
        bins: Literal["exact", "open"] = "exact",
        lower: float = -7.0,
        at_least: float = 0.0,
    ) -> None:
        super().__init__()
        self.bits, self.bin, self.bins, self.lower, self.at_least = bits, bin, bins, lower, at_least
        self.scale = scale
        if scale is None:
            self.log_scale = nn.Parameter(torch.empty(1))

    def initial(self, fill: Fill) -> None:
        if self.scale is None:
            fill("log_scale", zeros(), 1)

    def log_prob(self, params: Tensor, target: Tensor) -> Tensor:
        mean, log_scale = self._unpack(params)
        x = target.to(mean)
        ends = x if self.bins == "exact" else torch.zeros_like(x)  # 0 is at neither end, so that no bin takes a tail
        log_mass = exact_log_mass(ends, x - mean, log_scale, self.bin / 2)
        if self.at_least > 0:
            log_mass = torch.logaddexp(log_mass, log_mass.new_tensor(self.at_least).log())
        return log_mass.flatten(1).sum(1)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """A value clamped to [-1, 1]; the temperature multiplies the scale."""
        mean, log_scale = self._unpack(params)
        if temperature == 0:
            return mean.clamp(-1, 1)
        u = noise.uniform(STREAM, mean.shape[1:], _MARGIN, 1 - _MARGIN).to(mean)
        return (mean + temperature * log_scale.exp() * (torch.log(u) - torch.log1p(-u))).clamp(-1, 1)

    def mean(self, params: Tensor) -> Tensor:
        return self._unpack(params)[0].clamp(-1, 1)

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)

    def _unpack(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Means `(N, C, H, W)`, and log-scales that go with them."""
        params = at_least_float32(params)
        if self.scale is None:
            return params, self.log_scale.to(params).clamp_min(self.lower)
        mean, raw = params.chunk(2, dim=1)
        scale, log_scale = self.scale(raw)
        if log_scale is None:
            if scale is None:
                raise ValueError("the scale map gave neither a scale nor its logarithm")
            log_scale = scale.log()
        return mean, log_scale.clamp_min(self.lower)
