"""What every likelihood offers."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from hvdsl.runtime.ground.noise import Noise


class Likelihood(Protocol):
    """`density` says whether `log_prob` is the logarithm of a probability, so that nats and bits mean something."""

    density: bool

    def log_prob(self, params: Tensor, target: Tensor) -> Tensor:
        """log p(target | params) of each image, `(N,)` nats."""
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


def bits_per_dim(nats: float, dims: int) -> float:
    """nats per image / (dims · ln 2)"""
    return nats / (dims * math.log(2))
