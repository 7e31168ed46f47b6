"""Distributions of latents: their parameters' maps, densities, draws, closed-form divergences and couplings.

Everything here is elementwise, in nats, and in float32 or wider whatever the precision around it: summed in bfloat16 a
rate is off by 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MeanMap = Callable[[Tensor], Tensor]
ScaleMap = Callable[[Tensor], tuple[Tensor | None, Tensor | None]]
"""Raw values to (σ, log σ); None for the one that the other's exp or log gives as well."""

LOG_2PI = math.log(2 * math.pi)


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


_IDENTITY = identity()
_EXP = exp()


def at_least_float32(x: Tensor) -> Tensor:
    """float64 stays; anything narrower than float32 is widened."""
    return x if x.dtype == torch.float64 else x.float()


class Normal:
    """A normal distribution in each element, from parameters `(N, 2Z, H, W)`: Z means, then Z raw scales.

    `density_floor` is added to the variance in `log_prob` only (Ladder VAE, Sønderby 2016).
    """

    def __init__(
        self, params: Tensor, mean: MeanMap = _IDENTITY, scale: ScaleMap = _EXP, density_floor: float = 0.0
    ) -> None:
        raw_mean, raw_scale = at_least_float32(params).chunk(2, dim=1)
        self.mean = mean(raw_mean)
        self._scale, self._log_scale = scale(raw_scale)
        self.density_floor = density_floor

    @classmethod
    def of(
        cls,
        mean: Tensor,
        scale: Tensor | None = None,
        log_scale: Tensor | None = None,
        density_floor: float = 0.0,
    ) -> Normal:
        """From a mean and a scale, or its logarithm, or both where both are at hand."""
        if scale is None and log_scale is None:
            raise ValueError("a normal distribution needs a scale or a log-scale")
        self = cls.__new__(cls)
        self.mean, self._scale, self._log_scale = mean, scale, log_scale
        self.density_floor = density_floor
        return self

    @classmethod
    def standard(cls, shape: Sequence[int], device: torch.device | str | None = None) -> Normal:
        """Mean 0 and scale 1 in every element of `shape`."""
        zeros = torch.zeros(tuple(shape), device=device)
        return cls.of(zeros, log_scale=zeros)

    @property
    def shape(self) -> torch.Size:
        return self.mean.shape

    @property
    def scale(self) -> Tensor:
        """σ"""
        if self._scale is None:
            self._scale = self.log_scale.exp()
        return self._scale

    @property
    def log_scale(self) -> Tensor:
        """log σ"""
        if self._log_scale is None:
            self._log_scale = self.scale.log()
        return self._log_scale

    def sample(self, eps: Tensor, temperature: float = 1.0) -> Tensor:
        """μ + t σ ε"""
        if temperature != 1:
            eps = temperature * eps
        return torch.addcmul(self.mean, self.scale, eps)

    def log_prob(self, z: Tensor) -> Tensor:
        """-½ ((z - μ) / σ)² - log σ - ½ log 2π"""
        z = at_least_float32(z)
        if self.density_floor == 0:
            return -0.5 * ((z - self.mean) / self.scale).square() - self.log_scale - 0.5 * LOG_2PI
        variance = self.scale.square() + self.density_floor
        return -0.5 * ((z - self.mean).square() / variance + variance.log() + LOG_2PI)

    def kl(self, other: Normal) -> Tensor:
        """KL(self ‖ other) = log(σ_o / σ) + ½ (σ² + (μ - μ_o)²) / σ_o² - ½ (Kingma & Welling 2014, appendix B)."""
        relative = self.log_scale - other.log_scale
        distance = (self.mean - other.mean) * torch.exp(-other.log_scale)
        return 0.5 * (torch.expm1(2 * relative) + distance.square()) - relative


class Flowed:
    """A normal distribution whose sample went through a flow: known at that one sample, as inference needs it.

    `start` is the sample before the flow and `z` the value after it. `log_determinants` are log |dz'/dz| of the
    flow's steps in each element; steps that keep volume have none (Kingma 2016, equation 10).
    """

    def __init__(self, base: Normal, start: Tensor, z: Tensor, *log_determinants: Tensor) -> None:
        self.base, self.start, self.z, self.log_determinants = base, start, z, log_determinants

    @property
    def shape(self) -> torch.Size:
        return self.z.shape

    @property
    def log_q(self) -> Tensor:
        """log q(z) = log q_base(start) - Σ log |dz'/dz|, elementwise."""
        return sum((-at_least_float32(d) for d in self.log_determinants), self.base.log_prob(self.start))


def relative(a: Normal, t: Normal) -> Normal:
    """`a` read relative to `t`: means add, scales multiply (NVAE's paper, Vahdat & Kautz 2020, section 3.2)."""
    return Normal.of(
        a.mean + t.mean, log_scale=a.log_scale + t.log_scale, density_floor=max(a.density_floor, t.density_floor)
    )


def product(a: Normal, t: Normal) -> Normal:
    """The normalised product of two normal densities: precisions add (Ladder VAE, Sønderby 2016, equation 15).

    Computed in logarithms, so that a scale may be of any size:
    log σ² = -logaddexp(-log σ_a², -log σ_t²), and each mean is weighted by sigmoid(log σ²_other - log σ²_own).
    """
    log_var_a, log_var_t = 2 * a.log_scale, 2 * t.log_scale
    log_scale = -0.5 * torch.logaddexp(-log_var_a, -log_var_t)
    mean = torch.lerp(t.mean, a.mean, torch.sigmoid(log_var_t - log_var_a))
    return Normal.of(mean, log_scale=log_scale, density_floor=max(a.density_floor, t.density_floor))
