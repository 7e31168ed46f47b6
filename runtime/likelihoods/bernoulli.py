"""Independent bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32

STREAM = "likelihood.bernoulli"


class Bernoulli(nn.Module):
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

    def log_prob(self, params: Tensor, target: Tensor) -> Tensor:
        logits, target = at_least_float32(params), at_least_float32(target)
        scored = -F.binary_cross_entropy_with_logits(self._cropped(logits), self._cropped(target), reduction="none")
        return scored.flatten(1).sum(1)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Bits; logits are divided by the temperature, and 0 gives the likelier bit."""
        logits = at_least_float32(params)
        if temperature == 0:
            return (logits > 0).to(logits)
        u = noise.uniform(STREAM, logits.shape[1:], 0.0, 1.0).to(logits)
        return (u < torch.sigmoid(logits / temperature)).to(logits)

    def mean(self, params: Tensor) -> Tensor:
        return torch.sigmoid(at_least_float32(params))

    def dims(self, shape: tuple[int, int, int]) -> int:
        channels, height, width = shape
        return channels * (height - 2 * self.crop) * (width - 2 * self.crop)

    def _cropped(self, x: Tensor) -> Tensor:
        return x[:, :, self.crop : x.shape[2] - self.crop, self.crop : x.shape[3] - self.crop]
