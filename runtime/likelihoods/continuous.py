"""Likelihoods of real values: normal and Laplace densities, and reconstruction errors, which stand in their place.

A density in a continuous value is not comparable with the probability of a grid value; an error is no density at all,
and is what VQ-VAEs minimise.
"""

from __future__ import annotations

import math
from abc import abstractmethod

from torch import Tensor

from hvdsl.runtime.distributions import Laplace, LocationScale, MeanMap, Normal, ScaleMap, exp, identity
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32
from hvdsl.runtime.likelihoods.base import Summed


class _Density(Summed):
    """A density of each value of the target, from C locations and then C raw scales `(N, 2C, H, W)`.

    `mean` and `scale` map raw values, as for latents. Samples and means are clamped to [-1, 1], where the targets lie.
    """

    density = True
    family: type[LocationScale]
    stream: str  # of the noise of its samples

    def __init__(self, mean: MeanMap | None = None, scale: ScaleMap | None = None) -> None:
        super().__init__()
        self._mean, self._scale = mean or identity(), scale or exp()

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.total(self._distribution(params).log_prob(target), weight)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """The scale is multiplied by the temperature."""
        distribution = self._distribution(params)
        drawn = distribution.noise(noise, self.stream, distribution.shape[1:]).to(distribution.mean)
        return distribution.sample(drawn, temperature).clamp(-1, 1)

    def mean(self, params: Tensor) -> Tensor:
        raw, _ = at_least_float32(params).chunk(2, dim=1)
        return self._mean(raw).clamp(-1, 1)

    def location_scale(self, params: Tensor) -> tuple[Tensor, Tensor] | None:
        distribution = self._distribution(params)
        return distribution.mean, distribution.scale

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)

    def _distribution(self, params: Tensor) -> LocationScale:
        return self.family(params, mean=self._mean, scale=self._scale)


class NormalDensity(_Density):
    """A normal distribution; the scale is its standard deviation."""

    family, stream = Normal, "likelihood.normal"


class LaplaceDensity(_Density):
    """A Laplace distribution, whose errors count by their size and not their square: -|x - μ| / b - log 2b."""

    family, stream = Laplace, "likelihood.laplace"


class _Reconstruction(Summed):
    """The output is the image. `log_prob` is minus the total error, a log-density but for its constant and scale."""

    density = False

    @abstractmethod
    def error(self, params: Tensor, target: Tensor) -> Tensor:
        """The error of each value, `(N, C, H, W)`."""

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Minus the error summed over each image, `(N,)`."""
        return -self.total(self.error(at_least_float32(params), at_least_float32(target)), weight)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """The output itself: an error says nothing of noise around it."""
        return at_least_float32(params)

    def mean(self, params: Tensor) -> Tensor:
        return at_least_float32(params)

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)


class Mse(_Reconstruction):
    """(x - μ)²: that of a normal distribution of variance ½."""

    def error(self, params: Tensor, target: Tensor) -> Tensor:
        return (target - params).square()


class Mae(_Reconstruction):
    """|x - μ|: that of a Laplace distribution of scale 1."""

    def error(self, params: Tensor, target: Tensor) -> Tensor:
        return (target - params).abs()
