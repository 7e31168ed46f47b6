"""The Laplace distribution."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from hvdsl.runtime.distributions.location_scale import LocationScale
from hvdsl.runtime.ground.tensors import at_least_float32


class Laplace(LocationScale):
    """A Laplace distribution in each element: density exp(-|z - μ| / σ) / 2σ, so that the variance is 2σ²."""

    @staticmethod
    def standard_draw(noise: Tensor) -> Tensor:
        """The inverse of the distribution function; `noise` is between 0 and 1."""
        return torch.where(noise < 0.5, (2 * noise).log(), -(2 * (1 - noise)).log())

    def log_prob(self, z: Tensor) -> Tensor:
        """-|z - μ| / σ - log 2σ"""
        return -(at_least_float32(z) - self.mean).abs() / self.scale - self.log_scale - math.log(2)

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other) = log(σ_o / σ) + (σ exp(-d / σ) + d) / σ_o - 1, d = |μ - μ_o| (Gil et al. 2013, table 2)."""
        relative = self.log_scale - other.log_scale
        distance = (self.mean - other.mean).abs()
        # With r = log(σ / σ_o): (e^r - 1 - r) + e^r (e^(-d/σ) - 1) + d/σ_o, each exact where both are nearly equal.
        moved = relative.exp() * torch.expm1(-distance / self.scale) + distance / other.scale
        return torch.expm1(relative) - relative + moved
