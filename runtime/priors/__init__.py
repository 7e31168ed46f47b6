"""Autoregressive priors over codes: what they are to the runtime, how they are trained and sampled."""

from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.priors.affine import convolution, joint_halves, moved
from hvdsl.runtime.priors.buffers import StepBuffers
from hvdsl.runtime.priors.pointwise import at_position, elu, glu, sigmoid, silu, tanh

__all__ = [
    "CodeMap",
    "StepBuffers",
    "at_position",
    "convolution",
    "elu",
    "glu",
    "joint_halves",
    "moved",
    "sigmoid",
    "silu",
    "tanh",
]
