"""What every distribution of a latent offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hvdsl.runtime.ground.noise import Noise


class Distribution(ABC):
    """Independent elements, or positions, of one draw `(N, Z, H, W)`; all in nats and float32 or wider."""

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable draw, `(N, Z, H, W)`; of a symmetric density its mean."""

    @property
    def shape(self) -> torch.Size:
        """Of one draw."""
        return self.mode.shape

    @staticmethod
    def noise(source: Noise, stream: str, shape: Sequence[int]) -> Tensor:
        """What `sample` turns into draws of `shape`, `(N, *shape)`: here uniform numbers between 0 and 1, without both.

        The lowest is half of the spacing of single-precision draws, so that 0 is as far away as 1.
        """
        return source.uniform(stream, shape, 2.0**-25, 1.0)

    @abstractmethod
    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A draw `(N, Z, H, W)` from `noise` of the same shape, with a gradient to the parameters."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """The density, or mass, at z: `(N, Z, H, W)`, or `(N, 1, H, W)` where channels are drawn together."""

    @abstractmethod
    def kl(self, other: Self) -> Tensor | None:
        """KL(self ‖ other), shaped as densities are; None where it has no closed form."""

    def value(self, given: Tensor) -> Tensor:
        """A value from outside as a draw: `(N, Z, H, W)`, or the codes of a distribution that has codes."""
        return given.to(self.mode)

    def codes(self, z: Tensor) -> Tensor | None:
        """The numbers of drawn classes, `(N, 1, H, W)` int64; None for what has no codes."""
        return None
