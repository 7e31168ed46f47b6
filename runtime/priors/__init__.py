"""Autoregressive priors over codes: what they are to the runtime, how they are trained and sampled."""

from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.priors.affine import at_position, convolution, elu, glu, joint_halves, moved, sigmoid, silu, tanh
from hvdsl.runtime.priors.protocol import StepBuffers

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
