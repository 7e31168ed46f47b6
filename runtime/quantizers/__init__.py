"""Discrete latents: codebooks, finite scalars, signs.

A quantizer is a layer; called with the size of the batch it gives the latent's uniform prior, which the traversal takes
together with a `NearestCode` posterior.
"""

from hvdsl.runtime.quantizers.base import NearestCode, Quantized, Quantizer, UniformCodes
from hvdsl.runtime.quantizers.codebook import EmaCodebook, GradientCodebook, LinearCodebook
from hvdsl.runtime.quantizers.fixed import FiniteScalar, LookupFree

__all__ = [
    "EmaCodebook",
    "FiniteScalar",
    "GradientCodebook",
    "LinearCodebook",
    "LookupFree",
    "NearestCode",
    "Quantized",
    "Quantizer",
    "UniformCodes",
]
