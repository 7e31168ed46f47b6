"""The catalogue: every operation of the language, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hvdsl.compiler.catalogue import (
    activations,
    arithmetic,
    convolutions,
    distributions,
    joins,
    norms,
    quantizers,
    resampling,
    reshaping,
    sources,
    structure,
)
from hvdsl.compiler.catalogue.table import Operation

__all__ = ["CHAPTERS", "OPERATIONS"]

CHAPTERS: Mapping[str, tuple[Operation, ...]] = MappingProxyType(
    {
        "Convolutions and dense layers": convolutions.OPERATIONS,
        "Normalisation": norms.OPERATIONS,
        "Elementwise": activations.OPERATIONS,
        "Resampling": resampling.OPERATIONS,
        "Reshaping": reshaping.OPERATIONS,
        "Joins": joins.OPERATIONS,
        "Sources": sources.OPERATIONS,
        "Blocks": structure.OPERATIONS,
        "Arithmetic": arithmetic.OPERATIONS,
        "Distributions": distributions.OPERATIONS,
        "Discrete latents": quantizers.OPERATIONS,
    }
)

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {operation.name: operation for chapter in CHAPTERS.values() for operation in chapter}
)
