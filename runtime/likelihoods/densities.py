"""A continuous density in each value: not comparable with the probability of a grid value."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from hvdsl.runtime.distributions import MeanMap, Normal, ScaleMap, at_least_float32, exp, identity
from hvdsl.runtime.noise import Noise

NORMAL_STREAM, LAPLACE_STREAM = "likelihood.normal", "likelihood.laplace"


class _Density(nn.Module):
    """A density of each value of the target, from C locations and then C raw scales `(N, 2C, H, W)`.

    `mean` and `scale` map raw values, as for latents. Samples and means are clamped to [-1, 1], where the targets lie.
    """

    density = True

    def __init__(self, mean: MeanMap | None = None, scale: ScaleMap | None = None) -> None:
        super().__init__()
        self._mean, self._scale = mean or identity(), scale or exp()

    @abstractmethod
    def log_density(self, params: Tensor, target: Tensor) -> Tensor:
        """Of each value, `(N, C, H, W)` nats."""

    @abstractmethod
    def draw(self, params: Tensor, noise: Noise, temperature: float) -> Tensor:
        """A value for each, `(N, C, H, W)`, its scale multiplied by the temperature."""

    def log_prob(self, params: Tensor, target: Tensor) -> Tensor:
        return self.log_density(params, target).flatten(1).sum(1)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """The scale is multiplied by the temperature."""
        return self.draw(params, noise, temperature).clamp(-1, 1)

    def mean(self, params: Tensor) -> Tensor:
        raw, _ = at_least_float32(params).chunk(2, dim=1)
        return self._mean(raw).clamp(-1, 1)

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)


class NormalDensity(_Density):
    """A normal distribution; the scale is its standard deviation."""

    def log_density(self, params: Tensor, target: Tensor) -> Tensor:
        return self._density(params).log_prob(target)

    def draw(self, params: Tensor, noise: Noise, temperature: float) -> Tensor:
        density = self._density(params)
        eps = noise.normal(NORMAL_STREAM, density.shape[1:]).to(density.mean)
        return density.sample(eps, temperature)

    def _density(self, params: Tensor) -> Normal:
        return Normal(params, mean=self._mean, scale=self._scale)


class LaplaceDensity(_Density):
    """A Laplace distribution, whose errors count by their size and not their square: -|x - μ| / b - log 2b."""

    def log_density(self, params: Tensor, target: Tensor) -> Tensor:
        location, scale, log_scale = self._read(params)
        return -(target - location).abs() / scale - log_scale - math.log(2)

    def draw(self, params: Tensor, noise: Noise, temperature: float) -> Tensor:
        """μ - t b sign(u) log(1 - 2 |u|), with u uniform on (-½, ½)."""
        location, scale, _ = self._read(params)
        u = noise.uniform(LAPLACE_STREAM, location.shape[1:], -0.5, 0.5).to(location)
        tail = torch.log1p((-2 * u.abs()).clamp_min(_LEAST))
        return location - temperature * scale * u.sign() * tail

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """μ, b and log b, `(N, C, H, W)` each, mapped as a normal distribution's."""
        mapped = Normal(params, mean=self._mean, scale=self._scale)
        return mapped.mean, mapped.scale, mapped.log_scale


_LEAST = -1 + 2**-24  # the largest u that float32 tells from ½: no infinite sample
