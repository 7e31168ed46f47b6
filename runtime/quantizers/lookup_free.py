"""Lookup-free quantization: the sign of every channel is a bit of the code (Yu et al. 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.ground.tensors import Gradient, passed
from hvdsl.runtime.layers.init import Fill
from hvdsl.runtime.quantizers.base import LOWER_RATE, QuantizedRows, Quantizer


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
        code = torch.where(positive, self._size, -self._size).to(rows)
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
        return loss.expand(len(rows))


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
