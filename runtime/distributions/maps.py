"""From raw values to a distribution's parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MeanMap = Callable[[Tensor], Tensor]
ScaleMap = Callable[[Tensor], tuple[Tensor | None, Tensor | None]]
"""Raw values to (σ, log σ); None for the one that the other's exp or log gives as well."""


def identity() -> MeanMap:
    """The raw value itself."""
    return lambda raw: raw


def soft_clamp(limit: float) -> MeanMap:
    """c · tanh(x / c): the raw value near 0, never beyond ±c (NVAE, Vahdat & Kautz 2020)."""
    return lambda raw: limit * torch.tanh(raw / limit)


def exp(soft_clamp: float | None = None, add: float = 0.0) -> ScaleMap:
    """σ = exp(x) + add, x first soft-clamped where a limit is given. NVAE: `exp(soft_clamp=5, add=0.01)`."""

    def scale(raw: Tensor) -> tuple[Tensor | None, Tensor | None]:
        log_scale = raw if soft_clamp is None else soft_clamp * torch.tanh(raw / soft_clamp)
        return (None, log_scale) if add == 0 else (log_scale.exp() + add, None)

    return scale


def softplus(beta: float = 1.0) -> ScaleMap:
    """σ = log(1 + exp(βx)) / β; with β = ln 2, σ(0) = 1 (Efficient-VDVAE, Hazami 2022)."""
    return lambda raw: (F.softplus(raw, beta=beta), None)


def softplus_variance() -> ScaleMap:
    """σ² = log(1 + exp(x)) (Ladder VAE, Sønderby 2016)."""
    return lambda raw: (None, 0.5 * F.softplus(raw).log())


def softplus_logvar() -> ScaleMap:
    """log σ² = log(1 + exp(x)), so that σ ≥ 1 (BIVA, Maaløe 2019)."""
    return lambda raw: (None, 0.5 * F.softplus(raw))


def logvar() -> ScaleMap:
    """log σ² = x, the convention of most code: σ = exp(x / 2)."""
    return lambda raw: (None, 0.5 * raw)


def bounded(least: float, most: float) -> ScaleMap:
    """σ = least + (most - least) sigmoid(x): never beyond either."""
    return lambda raw: (least + (most - least) * torch.sigmoid(raw), None)
