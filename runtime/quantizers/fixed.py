"""Quantizers whose codes follow by arithmetic, without a table.

Finite scalar quantization rounds every channel to a few levels (Mentzer et al. 2023); in lookup-free quantization the
sign of every channel is a bit of the code (Yu et al. 2023).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.ground.tensors import Gradient, constants, passed, straight_through
from hvdsl.runtime.layers.init import Fill
from hvdsl.runtime.quantizers.base import LOWER_RATE, QuantizedRows, Quantizer

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
        levels = constants(self.levels, rows)
        position = self._position(rows, levels)
        digits = position + (levels / 2).floor() if not self.symmetric else position
        rounded = straight_through(position, position.round())
        value = self._value(rounded, levels)
        digits = digits.detach().round().long()
        codes = (digits * constants(self._bases, digits)).sum(1, keepdim=True)
        return QuantizedRows(value, codes, rows.new_zeros(rows.shape[0]))

    def look_up_rows(self, codes: Tensor) -> Tensor:
        bases, levels = constants(self._bases, codes), constants(self.levels, codes)
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
        offset = (levels % 2 == 0).to(levels) / 2
        return (rows + (offset / half).atanh()).tanh() * half - offset

    def _value(self, position: Tensor, levels: Tensor) -> Tensor:
        return 2 * position / (levels - 1) - 1 if self.symmetric else position / (levels / 2).floor()


class LookupFree(Quantizer):
    """2^bits codes: ±1 in each channel, the first the most significant bit; zero counts as negative.

    The loss that keeps codes in use is `entropy · (E[H(code | feature)] - diversity · H(E[code]))`: each feature sure
    of its code, all codes equally likely. p(code | feature) is the softmax over 2 · inverse_temperature · feature·code.

    Args:
        bits: Channels.
        grid: Height and width of the latent.
        spherical: Features and codes on the unit sphere (BSQ, Zhao et al. 2024).
        entropy: Weight of that loss. 0: none.
        diversity: Of the second term in it.
        inverse_temperature: How sharply p prefers the nearest code.
    """

    def __init__(
        self,
        bits: int,
        grid: tuple[int, int],
        *,
        spherical: bool = False,
        entropy: float = 0.1,
        diversity: float = 1.0,
        inverse_temperature: float = 100.0,
    ) -> None:
        super().__init__(2**bits, bits, grid)
        self.spherical, self.entropy, self.diversity = spherical, entropy, diversity
        self.inverse_temperature = inverse_temperature
        self._size = bits**-0.5 if spherical else 1.0

    @property
    def remedy(self) -> str:
        return f"raise `entropy` or {LOWER_RATE}"

    def initial(self, fill: Fill) -> None:
        """There is nothing to start."""

    def quantize_rows(self, rows: Tensor, gradient: Gradient) -> QuantizedRows:
        rows = F.normalize(rows, dim=1) if self.spherical else rows
        positive = rows.detach() > 0
        code = positive.to(rows) * (2 * self._size) - self._size
        weights = 2 ** torch.arange(self.dim - 1, -1, -1, device=rows.device)
        numbers = (positive * weights).sum(1, keepdim=True)
        commitment = (rows - code).square().mean(1)
        kept = self._entropies(rows) if self.training and self.entropy > 0 else None
        return QuantizedRows(passed(rows, code, gradient), numbers, commitment, kept)

    def look_up_rows(self, codes: Tensor) -> Tensor:
        shifts = torch.arange(self.dim - 1, -1, -1, device=codes.device)
        bits = (codes >> shifts) & 1
        return (2.0 * bits - 1) * self._size

    def mean_code(self) -> Tensor:
        return torch.zeros(self.dim)

    def _entropies(self, rows: Tensor) -> Tensor:
        """The loss, the same for every row: `(M,)`."""
        sure, spread = code_entropies(2 * self.inverse_temperature * self._size * rows)
        loss = self.entropy * (sure - self.diversity * spread)
        return loss.expand(rows.shape[0])


def code_entropies(logits: Tensor) -> tuple[Tensor, Tensor]:
    """E[H(code | feature)] and H(E[code]) in nats, where p(code | feature) ∝ exp(Σ ± logit) over all signs.

    The bits of a code are independent given the feature, P(bit_i = 1) = σ(2 logit_i), so that the first entropy is a
    sum over bits. For the second the codes' probabilities are the product of those of two halves of the bits: their
    mean over the features is one matrix product, and memory grows with 2^(bits / 2) per feature, not 2^bits.
    """
    on, off = F.logsigmoid(2 * logits), F.logsigmoid(-2 * logits)
    sure = -(on.exp() * on + off.exp() * off).sum(1).mean()
    half = logits.shape[1] // 2
    first = _halves(on[:, :half], off[:, :half])
    second = _halves(on[:, half:], off[:, half:])
    mean = first.t() @ second / len(logits)
    floor = torch.finfo(mean.dtype).tiny  # a finite logarithm, and gradient, where nothing is near a code
    return sure, -(mean * mean.clamp_min(floor).log()).sum()


def _halves(on: Tensor, off: Tensor) -> Tensor:
    """Probabilities `(M, 2^n)` of all combinations of n bits, from their logarithms `(M, n)`."""
    log_p = on.new_zeros(len(on), 1)
    for i in range(on.shape[1]):
        both = torch.stack([off[:, i], on[:, i]], 1)
        log_p = (log_p[:, :, None] + both[:, None, :]).flatten(1)
    return log_p.exp()
