"""What a distribution of a latent offers, and a posterior that went through a normalizing flow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32


class Distribution(ABC):
    """Independent elements, or positions, of one draw `(N, Z, H, W)`; all in nats and float32 or wider."""

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable draw, `(N, Z, H, W)`; of a symmetric density its mean."""

    @property
    def shape(self) -> torch.Size:
        """The shape of one draw."""
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

    @abstractmethod
    def mixed(self, guidance: float) -> Self:
        """Of a batch whose first half has conditions and whose second has none, u + w (c - u) of their parameters."""

    def value(self, given: Tensor) -> Tensor:
        """A value from outside as a draw: `(N, Z, H, W)`, or the codes of a distribution that has codes."""
        return given.to(self.mode)

    def codes(self, z: Tensor) -> Tensor | None:
        """The numbers of drawn classes, `(N, 1, H, W)` int64; None for what has no codes."""
        return None


def mix(values: Tensor, guidance: float) -> Tensor:
    """u + w (c - u) of the halves (c, u) of a batch; exactly c at w = 1, u at 0."""
    with_conditions, without = values.chunk(2)
    return torch.lerp(without, with_conditions, guidance)


class Flowed:
    """A distribution whose sample went through a flow: known at that one sample, as inference needs it.

    `start` is the sample before the flow and `z` the value after it. `log_determinants` are log |dz'/dz| of the
    flow's steps in each element; steps that keep volume have none (Kingma 2016, equation 10).
    """

    def __init__(self, base: Distribution, start: Tensor, z: Tensor, *log_determinants: Tensor) -> None:
        self.base, self.start, self.z, self.log_determinants = base, start, z, log_determinants

    @property
    def shape(self) -> torch.Size:
        return self.z.shape

    @property
    def log_q(self) -> Tensor:
        """log q(z) = log q_base(start) - Σ log |dz'/dz|, elementwise."""
        return sum((-at_least_float32(d) for d in self.log_determinants), self.base.log_prob(self.start))
