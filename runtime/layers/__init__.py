"""One class per operation that owns parameters or state, and functions for those that torch does not say in one call.

Constructors allocate and never initialise; `initialize(module, seed)` does, once and explicitly.
"""

from hvdsl.runtime.layers.activations import gelu, low_precision
from hvdsl.runtime.layers.convolution import Conv2d, ConvTranspose2d, Dense
from hvdsl.runtime.layers.functional import (
    Affine,
    Attention,
    Dropout,
    Learned,
    Recipe,
    Scope,
    avg_pool,
    condition,
    coordinates,
    gated_mix,
    one_hot,
    shift,
    with_presence,
)
from hvdsl.runtime.layers.init import (
    Init,
    constant,
    fan_in,
    gaussian,
    initialize,
    ones,
    orthogonal,
    scaled,
    uniform,
    zeros,
)
from hvdsl.runtime.layers.norms import BatchNorm2d, BatchNormSiLU, GroupNorm, LayerNorm
from hvdsl.runtime.layers.own import Own
from hvdsl.runtime.layers.weights import Causal, WeightNorm

__all__ = [
    "Affine",
    "Attention",
    "BatchNorm2d",
    "BatchNormSiLU",
    "Causal",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "Dropout",
    "GroupNorm",
    "Init",
    "LayerNorm",
    "Learned",
    "Own",
    "Recipe",
    "Scope",
    "WeightNorm",
    "avg_pool",
    "condition",
    "constant",
    "coordinates",
    "fan_in",
    "gated_mix",
    "gaussian",
    "gelu",
    "initialize",
    "low_precision",
    "one_hot",
    "ones",
    "orthogonal",
    "scaled",
    "shift",
    "uniform",
    "with_presence",
    "zeros",
]
