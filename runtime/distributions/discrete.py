"""Bits and classes, with exact divergences and straight-through gradients.

A draw is exact: bits of 0 and 1, one-hot vectors. Its gradient is that of the relaxed draw of temperature 1 by the
same noise (straight-through Gumbel-softmax, Jang, Gu & Poole 2017; the binary case, Maddison, Mnih & Teh 2017).
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.distributions.base import Distribution, mix
from hvdsl.runtime.ground.tensors import at_least_float32, require_codes, straight_through


class StraightThroughBernoulli(Distribution):
    """A bit in each element, from its log-odds of 1, `(N, Z, H, W)`."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = at_least_float32(logits)

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """1 where logits + t logit(u) > 0: the log-odds are divided by the temperature t, which may be 0."""
        moved = self.logits + temperature * noise.logit()
        return straight_through(moved.sigmoid(), (moved > 0).to(moved))

    def mixed(self, guidance: float) -> Self:
        return type(self)(mix(self.logits, guidance))

    def log_prob(self, z: Tensor) -> Tensor:
        """z log p + (1 - z) log(1 - p)"""
        return torch.lerp(F.logsigmoid(-self.logits), F.logsigmoid(self.logits), at_least_float32(z))

    def kl(self, other: Self) -> Tensor:
        """Exact: p log(p / p_o) + (1 - p) log((1 - p) / (1 - p_o))."""
        one = F.logsigmoid(self.logits) - F.logsigmoid(other.logits)
        zero = F.logsigmoid(-self.logits) - F.logsigmoid(-other.logits)
        return torch.lerp(zero, one, self.logits.sigmoid())


class StraightThroughCategorical(Distribution):
    """One of K classes at each position, as its one-hot vector, from logits `(N, K, H, W)`."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = at_least_float32(logits)

    @property
    def mode(self) -> Tensor:
        return self._one_hot(self.logits.argmax(1))

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The class of the largest logit + t Gumbel(u): logits are divided by the temperature t, which may be 0."""
        moved = self.logits - temperature * (-noise.log()).log()
        return straight_through(moved.softmax(1), self._one_hot(moved.argmax(1)))

    def mixed(self, guidance: float) -> Self:
        return type(self)(mix(self.logits, guidance))

    def log_prob(self, z: Tensor) -> Tensor:
        """log p of the class, `(N, 1, H, W)`."""
        return (at_least_float32(z) * self.logits.log_softmax(1)).sum(1, keepdim=True)

    def kl(self, other: Self) -> Tensor:
        """Exact: Σ p log(p / p_o) over the classes, `(N, 1, H, W)`."""
        log_p = self.logits.log_softmax(1)
        return (log_p.exp() * (log_p - other.logits.log_softmax(1))).sum(1, keepdim=True)

    def value(self, given: Tensor) -> Tensor:
        """One-hot vectors as they are, or those of codes `(N, 1, H, W)`.

        Raises:
            ValueError: a code is not one of the K.
        """
        if given.is_floating_point():
            return given.to(self.logits)
        require_codes(given, self.logits.shape[1], "there are {} classes, numbered from 0")
        return self._one_hot(given[:, 0].to(self.logits.device))

    def codes(self, z: Tensor) -> Tensor:
        return z.argmax(1, keepdim=True)

    def _one_hot(self, codes: Tensor) -> Tensor:
        """One-hot vectors `(N, K, H, W)` of `codes` `(N, H, W)`."""
        return F.one_hot(codes.long(), self.logits.shape[1]).movedim(-1, 1).to(self.logits)
