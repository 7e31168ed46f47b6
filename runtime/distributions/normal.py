"""The normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hvdsl.runtime.distributions.location_scale import LocationScale
from hvdsl.runtime.distributions.maps import MeanMap, ScaleMap, exp, identity
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32

LOG_2PI = math.log(2 * math.pi)
_IDENTITY = identity()
_EXP = exp()


class Normal(LocationScale):
    """A normal distribution in each element, from parameters `(N, 2Z, H, W)`: Z means, then Z raw scales.

    `density_floor` is added to the variance in `log_prob` only (Ladder VAE, Sønderby 2016).
    """

    density_floor = 0.0  # of those made by `of`

    def __init__(
        self, params: Tensor, mean: MeanMap = _IDENTITY, scale: ScaleMap = _EXP, density_floor: float = 0.0
    ) -> None:
        super().__init__(params, mean, scale)
        self.density_floor = density_floor

    def joined(self, other: Self, mean: Tensor, log_scale: Tensor) -> Self:
        """With the larger of the two density floors."""
        made = super().joined(other, mean, log_scale)
        made.density_floor = max(self.density_floor, other.density_floor)
        return made

    @staticmethod
    def noise(source: Noise, stream: str, shape: Sequence[int]) -> Tensor:
        """Standard normals `(N, *shape)`."""
        return source.normal(stream, shape)

    @staticmethod
    def standard_draw(noise: Tensor) -> Tensor:
        return noise

    def log_prob(self, z: Tensor) -> Tensor:
        """-½ ((z - μ) / σ)² - log σ - ½ log 2π"""
        z = at_least_float32(z)
        if self.density_floor == 0:
            return -0.5 * ((z - self.mean) / self.scale).square() - self.log_scale - 0.5 * LOG_2PI
        variance = self.scale.square() + self.density_floor
        return -0.5 * ((z - self.mean).square() / variance + variance.log() + LOG_2PI)

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other) = log(σ_o / σ) + ½ (σ² + (μ - μ_o)²) / σ_o² - ½ (Kingma & Welling 2014, appendix B)."""
        relative = self.log_scale - other.log_scale
        distance = (self.mean - other.mean) * torch.exp(-other.log_scale)
        return 0.5 * (torch.expm1(2 * relative) + distance.square()) - relative
