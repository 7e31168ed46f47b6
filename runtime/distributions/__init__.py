"""Distributions of latents: their parameters' maps, densities, draws, closed-form divergences and couplings.

Everything here is elementwise, in nats, and in float32 or wider whatever the precision around it: summed in bfloat16 a
rate is off by 2 %.
"""

from hvdsl.runtime.distributions.base import Distribution, Flowed
from hvdsl.runtime.distributions.discrete import StraightThroughBernoulli, StraightThroughCategorical
from hvdsl.runtime.distributions.location_scale import (
    Laplace,
    LocationScale,
    Logistic,
    MeanMap,
    Normal,
    ScaleMap,
    bounded,
    exp,
    identity,
    logvar,
    product,
    relative,
    soft_clamp,
    softplus,
    softplus_logvar,
    softplus_variance,
)

__all__ = [
    "Distribution",
    "Flowed",
    "Laplace",
    "LocationScale",
    "Logistic",
    "MeanMap",
    "Normal",
    "ScaleMap",
    "StraightThroughBernoulli",
    "StraightThroughCategorical",
    "bounded",
    "exp",
    "identity",
    "logvar",
    "product",
    "relative",
    "soft_clamp",
    "softplus",
    "softplus_logvar",
    "softplus_variance",
]
