"""Distributions made of two."""

from __future__ import annotations

from typing import TypeVar

import torch

from hvdsl.runtime.distributions.location_scale import LocationScale
from hvdsl.runtime.distributions.normal import Normal

Family = TypeVar("Family", bound=LocationScale)


def relative(a: Family, t: Family) -> Family:
    """`a` read relative to `t`: means add, scales multiply (NVAE's paper, Vahdat & Kautz 2020, section 3.2)."""
    return a.joined(t, a.mean + t.mean, a.log_scale + t.log_scale)


def product(a: Normal, t: Normal) -> Normal:
    """The normalised product of two normal densities: precisions add (Ladder VAE, Sønderby 2016, equation 15).

    Computed in logarithms, so that a scale may be of any size:
    log σ² = -logaddexp(-log σ_a², -log σ_t²), and each mean is weighted by sigmoid(log σ²_other - log σ²_own).
    """
    log_var_a, log_var_t = 2 * a.log_scale, 2 * t.log_scale
    log_scale = -0.5 * torch.logaddexp(-log_var_a, -log_var_t)
    return a.joined(t, torch.lerp(t.mean, a.mean, torch.sigmoid(log_var_t - log_var_a)), log_scale)
