"""Reconstruction errors in the place of a likelihood: what VQ-VAEs minimise."""

from __future__ import annotations

import math
from abc import abstractmethod

from torch import Tensor, nn

from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32


class _Reconstruction(nn.Module):
    """The output is the image. `log_prob` is minus the total error, a log-density but for its constant and scale."""

    density = False

    @abstractmethod
    def error(self, params: Tensor, target: Tensor) -> Tensor:
        """The error of each value, `(N, C, H, W)`."""

    def log_prob(self, params: Tensor, target: Tensor) -> Tensor:
        """Minus the error summed over each image, `(N,)`."""
        return -self.error(at_least_float32(params), at_least_float32(target)).flatten(1).sum(1)

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
