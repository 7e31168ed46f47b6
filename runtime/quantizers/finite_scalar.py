"""Finite scalar quantization: every channel rounded to a few levels (Mentzer et al. 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hvdsl.runtime.ground.tensors import Gradient, straight_through
from hvdsl.runtime.layers.init import Fill
from hvdsl.runtime.quantizers.base import QuantizedRows, Quantizer

_MARGIN = 1e-3  # the outermost levels lie that much inside the bound, so that rounding cannot pass it


class FiniteScalar(Quantizer):
    """L_i levels in channel i; a code is the combination, the first channel its least significant digit.

    A feature is bounded to the levels' range and rounded, half to even; the gradient passes through the rounding, not
    through the bound. There is no codebook and no commitment.

    Args:
        levels: Of each channel.
        grid: Height and width of the latent.
        symmetric: Levels evenly on [-1, 1], for even numbers too (Parker et al. 2024, equation 2).
    """

    def __init__(self, levels: tuple[int, ...], grid: tuple[int, int], *, symmetric: bool = False) -> None:
        super().__init__(math.prod(levels), len(levels), grid)
        self.levels, self.symmetric = levels, symmetric
        self._bases = tuple(math.prod(levels[:i]) for i in range(len(levels)))

    def initial(self, fill: Fill) -> None:
        """There is nothing to start."""

    def quantize_rows(self, rows: Tensor, gradient: Gradient) -> QuantizedRows:
        levels = rows.new_tensor(self.levels)
        position = self._position(rows, levels)
        digits = position + (levels / 2).floor() if not self.symmetric else position
        rounded = straight_through(position, position.round())
        value = self._value(rounded, levels)
        codes = (digits.detach().round().long() * torch.tensor(self._bases, device=rows.device)).sum(1, keepdim=True)
        return QuantizedRows(value, codes, rows.new_zeros(len(rows)))

    def look_up_rows(self, codes: Tensor) -> Tensor:
        bases = torch.tensor(self._bases, device=codes.device)
        levels = torch.tensor(self.levels, device=codes.device)
        digits = (codes // bases % levels).float()
        position = digits if self.symmetric else digits - (levels / 2).floor()
        return self._value(position, levels.float())

    def mean_code(self) -> Tensor:
        levels = torch.tensor(self.levels, dtype=torch.float32)
        return self._value((levels - 1) / 2 - (0 if self.symmetric else (levels / 2).floor()), levels)

    def _position(self, rows: Tensor, levels: Tensor) -> Tensor:
        """Where a feature lies between the levels, which are whole numbers; before rounding."""
        if self.symmetric:
            return (levels - 1) * (rows.tanh() + 1) / 2
        half = (levels - 1) * (1 + _MARGIN) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return (rows + (offset / half).atanh()).tanh() * half - offset

    def _value(self, position: Tensor, levels: Tensor) -> Tensor:
        return 2 * position / (levels - 1) - 1 if self.symmetric else position / (levels / 2).floor()
