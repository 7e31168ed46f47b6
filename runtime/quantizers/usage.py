"""Quantizers of a model as training sees them: one update per applied step, and how much of each codebook is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hvdsl.runtime.ground.tensors import Agreement
from hvdsl.runtime.quantizers.base import LOWER_RATE, Quantizer

COLLAPSED = 0.05
"""Perplexity over the number of codes, or of chances to choose one where those are fewer, that is called a collapse."""
CHOSEN = "chosen"
"""The part of a checkpoint that holds how often codes were chosen since the last record."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How the codes of one level were chosen over a window.

    Attributes:
        level: The latent's path, with the depth where there are several: `decoder.r32.z_top`.
        used: The fraction of codes chosen at least once.
        perplexity: exp(-Σ p log p) of the codes' frequencies: 1 where one code does everything, K where all do alike.
        codes: K.
        choices: How many were made.
        remedy: What a user can do about too few codes in use.
    """

    level: str
    used: float
    perplexity: float
    codes: int
    choices: int
    remedy: str = LOWER_RATE

    @property
    def warning(self) -> str | None:
        """What to tell the user of a level that has collapsed."""
        if self.choices == 0 or self.perplexity >= max(2.0, COLLAPSED * min(self.codes, self.choices)):
            return None
        return (
            f"`{self.level}` has collapsed: perplexity {self.perplexity:.1f} of {self.codes} codes, "
            f"{self.used:.1%} of them used; {self.remedy}"
        )


def agree(model: nn.Module, agreement: Agreement) -> None:
    """Hand every quantizer what the processes that train the model together agree on."""
    for _, quantizer in _quantizers(model):
        quantizer.agreement = agreement


def settle(model: nn.Module, applied: Tensor) -> None:
    """End a step: every quantizer learns from what it saw in it, unless the step was skipped.

    Args:
        applied: Whether it was not, a scalar on the model's device.
    """
    for _, quantizer in _quantizers(model):
        quantizer.update(applied)


def usage(model: nn.Module) -> list[Usage]:
    """The usage of every level since this was last asked, in the order of the model's modules."""
    levels = []
    for path, quantizer in _quantizers(model):
        level = path.partition(".prior.")[0]
        for depth, counts in enumerate(quantizer.take_window().double().cpu()):
            name = level if quantizer.depth == 1 else f"{level}, depth {depth}"
            levels.append(replace(usage_of(name, counts), remedy=quantizer.remedy))
    return levels


def chosen_codes(model: nn.Module) -> dict[str, Tensor]:
    """How often each code was chosen since `usage` was last asked, `(depth, K)`, by the path of its quantizer."""
    return {path: quantizer.window for path, quantizer in _quantizers(model)}


def load_chosen_codes(model: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Go on counting from `chosen_codes()`; from nothing where a quantizer is not in it."""
    for path, quantizer in _quantizers(model):
        quantizer.window = chosen.get(path)


def usage_of(level: str, counts: Tensor) -> Usage:
    """The usage that follows from how often each code was chosen, `(K,)`, or `(depth, K)`.

    Of several depths, the perplexity is that of their mean entropy.
    """
    choices = counts.sum()
    p = counts / counts.sum(-1, keepdim=True).clamp_min(1)
    perplexity = torch.exp(-torch.special.xlogy(p, p).sum(-1).mean()).item() if choices > 0 else 0.0
    used = (counts > 0).double().mean().item()
    return Usage(level, used, perplexity, counts.shape[-1], round(choices.item()))


def _quantizers(model: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    return ((path, module) for path, module in model.named_modules() if isinstance(module, Quantizer))
