"""What every likelihood offers."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from hvdsl.runtime.ground.noise import Noise


class Likelihood(Protocol):
    """`density` says whether `log_prob` is the logarithm of a probability, so that nats and bits mean something."""

    density: bool

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """log p(target | params) of each image, `(N,)` nats; `weight` `(N, 1, H, W)` counts its pixels differently."""
        ...

    def weights(self, weight: Tensor, target: Tensor) -> Tensor:
        """The weight of each value that is scored, whose sum is what "per dimension" divides by."""
        ...

    def location_scale(self, params: Tensor) -> tuple[Tensor, Tensor] | None:
        """Location and scale of each value `(N, C, H, W)`; None where a value is not location + scale · noise."""
        ...

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """An image `(N, C, H, W)` for each of `params`, in the target's units."""
        ...

    def mean(self, params: Tensor) -> Tensor:
        """The expected image `(N, C, H, W)`, in the target's units."""
        ...

    def dims(self, shape: tuple[int, int, int]) -> int:
        """How many values of an image of that shape are scored: what "per dimension" divides by."""
        ...


class Summed(nn.Module):
    """What likelihoods share that score each value, or the values of a pixel together."""

    def weights(self, weight: Tensor, target: Tensor) -> Tensor:
        """The weight of each value that is scored, `(N, C, H, W)`."""
        return weight.expand_as(target)

    def location_scale(self, params: Tensor) -> tuple[Tensor, Tensor] | None:
        """Location and scale of each value `(N, C, H, W)`; None where a value is not location + scale · noise."""
        return None

    def total(self, scored: Tensor, weight: Tensor | None) -> Tensor:
        """Sum the scores of values `(N, C, H, W)`, or of pixels `(N, H, W)`, over each image: `(N,)`."""
        if weight is not None:
            own = weight if scored.dim() == weight.dim() else weight[:, 0]
            # What does not count must not count as NaN either.
            scored = torch.where(own > 0, scored, torch.zeros_like(scored)) * own.to(scored)
        return scored.flatten(1).sum(1)


def bits_per_dim(nats: float, dims: int) -> float:
    """nats per image / (dims · ln 2)"""
    return nats / (dims * math.log(2))
