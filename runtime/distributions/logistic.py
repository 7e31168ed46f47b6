"""The logistic distribution."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.distributions.location_scale import LocationScale
from hvdsl.runtime.ground.tensors import at_least_float32


class Logistic(LocationScale):
    """A logistic distribution in each element: distribution function sigmoid((z - μ) / σ), variance σ² π² / 3."""

    @staticmethod
    def standard_draw(noise: Tensor) -> Tensor:
        """logit(u): the inverse of the distribution function; `noise` is between 0 and 1."""
        return noise.logit()

    def log_prob(self, z: Tensor) -> Tensor:
        """-x - 2 log(1 + exp(-x)) - log σ, x = (z - μ) / σ"""
        x = (at_least_float32(z) - self.mean) / self.scale
        return F.logsigmoid(x) + F.logsigmoid(-x) - self.log_scale

    def kl(self, other: Self) -> None:
        """There is no closed form."""
        return
