"""Distributions of a location and a scale (normal, logistic, Laplace), from raw values to couplings with the prior."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.distributions.base import Distribution, mix
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32

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


LOG_2PI = math.log(2 * math.pi)
_IDENTITY = identity()
_EXP = exp()


class LocationScale(Distribution):
    """z = μ + σ ε in each element, from parameters `(N, 2Z, H, W)`: Z means, then Z raw scales."""

    def __init__(self, params: Tensor, mean: MeanMap = _IDENTITY, scale: ScaleMap = _EXP) -> None:
        raw_mean, raw_scale = at_least_float32(params).chunk(2, dim=1)
        self.mean = mean(raw_mean)
        self._scale, self._log_scale = scale(raw_scale)

    @classmethod
    def of(cls, mean: Tensor, scale: Tensor | None = None, log_scale: Tensor | None = None) -> Self:
        """From a mean and a scale, or its logarithm, or both where both are at hand."""
        if scale is None and log_scale is None:
            raise ValueError("a distribution needs a scale or a log-scale")
        self = cls.__new__(cls)
        self.mean, self._scale, self._log_scale = mean, scale, log_scale
        return self

    @classmethod
    def standard(
        cls, shape: Sequence[int], device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Mean 0 and scale 1 in every element of `shape`."""
        zeros = at_least_float32(torch.zeros(tuple(shape), device=device, dtype=dtype))
        return cls.of(zeros, log_scale=zeros)

    def joined(self, other: Self, mean: Tensor, log_scale: Tensor) -> Self:
        """A distribution of this mean and scale, made of `self` and `other`."""
        return type(self).of(mean, log_scale=log_scale)

    def mixed(self, guidance: float) -> Self:
        mean, log_scale = mix(self.mean, guidance), mix(self.log_scale, guidance)
        return self.joined(self, mean, log_scale)

    def standardized(self, z: Tensor) -> Tensor:
        """(z - μ) / σ: the part of z that is not of the distribution, which `at` turns back."""
        return (z - self.mean) / self.scale

    def at(self, standard: Tensor) -> Tensor:
        """μ + σ ε"""
        return torch.addcmul(self.mean, self.scale, standard)

    @property
    def mode(self) -> Tensor:
        return self.mean

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

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """μ + t σ ε"""
        eps = self.standard_draw(noise)
        if temperature != 1:
            eps = temperature * eps
        return torch.addcmul(self.mean, self.scale, eps)

    @staticmethod
    @abstractmethod
    def standard_draw(noise: Tensor) -> Tensor:
        """ε, a draw of mean 0 and scale 1, from noise."""


class Normal(LocationScale):
    """A normal distribution in each element, from parameters `(N, 2Z, H, W)`: Z means, then Z raw scales.

    `density_floor` is added to the variance in `log_prob` only (Ladder VAE, Sønderby 2016).
    """

    density_floor = 0.0  # of those made by `of`

    def __init__(
        self, params: Tensor, mean: MeanMap = _IDENTITY, scale: ScaleMap = _EXP, density_floor: float = 0.0
    ) -> None:
        super().__init__(params, mean, scale)
        self.density_floor = density_floor

    def joined(self, other: Self, mean: Tensor, log_scale: Tensor) -> Self:
        """With the larger of the two density floors."""
        joined = super().joined(other, mean, log_scale)
        joined.density_floor = max(self.density_floor, other.density_floor)
        return joined

    @staticmethod
    def noise(source: Noise, stream: str, shape: Sequence[int]) -> Tensor:
        """Standard normals `(N, *shape)`."""
        return source.normal(stream, shape)

    @staticmethod
    def standard_draw(noise: Tensor) -> Tensor:
        return noise

    def log_prob(self, z: Tensor) -> Tensor:
        """-½ ((z - μ) / σ)² - log σ - ½ log 2π"""
        z = at_least_float32(z)
        if self.density_floor == 0:
            return -0.5 * ((z - self.mean) / self.scale).square() - self.log_scale - 0.5 * LOG_2PI
        variance = self.scale.square() + self.density_floor
        return -0.5 * ((z - self.mean).square() / variance + variance.log() + LOG_2PI)

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other) = log(σ_o / σ) + ½ (σ² + (μ - μ_o)²) / σ_o² - ½ (Kingma & Welling 2014, appendix B)."""
        relative = self.log_scale - other.log_scale
        distance = (self.mean - other.mean) * torch.exp(-other.log_scale)
        return 0.5 * (torch.expm1(2 * relative) + distance.square()) - relative


class Logistic(LocationScale):
    """A logistic distribution in each element: distribution function sigmoid((z - μ) / σ), variance σ² π² / 3."""

    @staticmethod
    def standard_draw(noise: Tensor) -> Tensor:
        """logit(u): the inverse of the distribution function; `noise` is between 0 and 1."""
        return noise.logit()

    def log_prob(self, z: Tensor) -> Tensor:
        """-x - 2 log(1 + exp(-x)) - log σ, x = (z - μ) / σ"""
        x = (at_least_float32(z) - self.mean) / self.scale
        return F.logsigmoid(x) + F.logsigmoid(-x) - self.log_scale

    def kl(self, other: Self) -> None:
        """There is no closed form."""
        return


class Laplace(LocationScale):
    """A Laplace distribution in each element: density exp(-|z - μ| / σ) / 2σ, so that the variance is 2σ²."""

    @staticmethod
    def standard_draw(noise: Tensor) -> Tensor:
        """The inverse of the distribution function; `noise` is between 0 and 1."""
        return torch.where(noise < 0.5, (2 * noise).log(), -(2 * (1 - noise)).log())

    def log_prob(self, z: Tensor) -> Tensor:
        """-|z - μ| / σ - log 2σ"""
        return -(at_least_float32(z) - self.mean).abs() / self.scale - self.log_scale - math.log(2)

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other) = log(σ_o / σ) + (σ exp(-d / σ) + d) / σ_o - 1, d = |μ - μ_o| (Gil et al. 2013, table 2)."""
        relative = self.log_scale - other.log_scale
        distance = (self.mean - other.mean).abs()
        # With r = log(σ / σ_o): (e^r - 1 - r) + e^r (e^(-d/σ) - 1) + d/σ_o, each exact where both are nearly equal.
        moved = relative.exp() * torch.expm1(-distance / self.scale) + distance / other.scale
        return torch.expm1(relative) - relative + moved


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
