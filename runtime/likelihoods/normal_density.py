"""A continuous density in each value: not comparable with the probability of a grid value."""

from __future__ import annotations

import math

from torch import Tensor, nn

from hvdsl.runtime.distributions import MeanMap, Normal, ScaleMap, exp, identity
from hvdsl.runtime.noise import Noise

STREAM = "likelihood.normal"


class NormalDensity(nn.Module):
    """A normal density of each value of the target, from C means and then C raw scales `(N, 2C, H, W)`.

    `mean` and `scale` map raw values, as for latents. Samples and means are clamped to [-1, 1], where the targets lie.
    """

    density = True

    def __init__(self, mean: MeanMap | None = None, scale: ScaleMap | None = None) -> None:
        super().__init__()
        self._mean, self._scale = mean or identity(), scale or exp()

    def log_prob(self, params: Tensor, target: Tensor) -> Tensor:
        return self._density(params).log_prob(target).flatten(1).sum(1)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """The standard deviation is multiplied by the temperature."""
        density = self._density(params)
        eps = noise.normal(STREAM, density.shape[1:]).to(density.mean)
        return density.sample(eps, temperature).clamp(-1, 1)

    def mean(self, params: Tensor) -> Tensor:
        return self._density(params).mean.clamp(-1, 1)

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)

    def _density(self, params: Tensor) -> Normal:
        return Normal(params, mean=self._mean, scale=self._scale)
