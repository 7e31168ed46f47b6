"""Latent groups and the one walk over them: see `traversal`."""

from hvdsl.runtime.latents.group import Condition, FreeBits, Given, LatentGroup, Source, Sources
from hvdsl.runtime.latents.outcome import Detail, Outcome
from hvdsl.runtime.latents.traversal import Traversal

__all__ = [
    "Condition",
    "Detail",
    "FreeBits",
    "Given",
    "LatentGroup",
    "Outcome",
    "Source",
    "Sources",
    "Traversal",
]
