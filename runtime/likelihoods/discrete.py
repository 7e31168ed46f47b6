"""Likelihoods of bits and of classes: Bernoulli and categorical."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32
from hvdsl.runtime.likelihoods.base import Summed

BERNOULLI_STREAM = "likelihood.bernoulli"
CATEGORICAL_STREAM = "likelihood.categorical"
_SMALLEST = 1e-5  # of a uniform number in a double logarithm


class Bernoulli(Summed):
    """A logit for each value of a target in {0, 1}: log p = t log σ(l) + (1 - t) log σ(-l).

    `crop` leaves out that many rows and columns at each border, which padding added (NVAE scores 28x28 of a 32x32
    canvas).
    """

    density = True

    def __init__(self, crop: int = 0) -> None:
        if crop < 0:
            raise ValueError(f"`crop` is a number of pixels, 0 or more, not {crop}")
        super().__init__()
        self.crop = crop

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        logits, target = at_least_float32(params), at_least_float32(target)
        scored = -F.binary_cross_entropy_with_logits(self._cropped(logits), self._cropped(target), reduction="none")
        return self.total(scored, None if weight is None else self._cropped(weight))

    def weights(self, weight: Tensor, target: Tensor) -> Tensor:
        return self._cropped(weight.expand_as(target))

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Bits; logits are divided by the temperature, and 0 gives the likelier bit."""
        logits = at_least_float32(params)
        if temperature == 0:
            return (logits > 0).to(logits)
        u = noise.uniform(BERNOULLI_STREAM, logits.shape[1:], 0.0, 1.0).to(logits)
        return (u < torch.sigmoid(logits / temperature)).to(logits)

    def mean(self, params: Tensor) -> Tensor:
        return torch.sigmoid(at_least_float32(params))

    def dims(self, shape: tuple[int, int, int]) -> int:
        channels, height, width = shape
        return channels * (height - 2 * self.crop) * (width - 2 * self.crop)

    def _cropped(self, x: Tensor) -> Tensor:
        return x[:, :, self.crop : x.shape[2] - self.crop, self.crop : x.shape[3] - self.crop]


class Categorical(Summed):
    """A softmax over the 2^bits values of the target's grid, for each pixel and channel (cross entropy).

    Parameters are `(N, 2^bits · C, H, W)`, the logits of a channel together. The grid is that of a target that takes
    2^bits values evenly on [low, high].

    Args:
        channels: C.
        bits: Of the grid.
        low: The target's least value.
        high: Its largest.
    """

    density = True

    def __init__(self, channels: int, bits: int, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.channels, self.values = channels, 2**bits
        self.low, self.step = low, (high - low) / (2**bits - 1)

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        places = ((at_least_float32(target) - self.low) / self.step).round().long()
        chosen = self._log_p(params).gather(2, places.clamp(0, self.values - 1)[:, :, None])
        return self.total(chosen[:, :, 0], weight)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """A value each; logits are divided by the temperature, and 0 gives the likeliest (Gumbel-max)."""
        log_p = self._log_p(params)
        if temperature > 0:
            u = noise.uniform(CATEGORICAL_STREAM, log_p.shape[1:], _SMALLEST, 1 - _SMALLEST).to(log_p)
            log_p = log_p / temperature - torch.log(-torch.log(u))
        values: Tensor = self.low + self.step * log_p.argmax(2).to(log_p)
        return values

    def mean(self, params: Tensor) -> Tensor:
        p = self._log_p(params).exp()
        grid = self.low + self.step * torch.arange(self.values, device=p.device, dtype=p.dtype)
        means: Tensor = (p * grid[:, None, None]).sum(2)
        return means

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)

    def _log_p(self, params: Tensor) -> Tensor:
        """`(N, C, 2^bits, H, W)`"""
        batch, _, height, width = params.shape
        logits = at_least_float32(params).reshape(batch, self.channels, self.values, height, width)
        return F.log_softmax(logits, 2)
