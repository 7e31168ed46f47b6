"""A latent group of a model, and where its value can come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LatentGroup:
    """One latent variable: its name in the spec, its path in the model, its family, the shape `(Z, H, W)` of a draw.

    One of classes or codes has `codes` different values at each depth, and `depth` codes at each position.
    """

    name: str
    path: str
    family: str
    shape: tuple[int, int, int]
    codes: int | None = None
    depth: int = 1

    @property
    def quantized(self) -> bool:
        """Whether z is the nearest code of a quantizer, whose codes are all equally likely."""
        return self.family in ("codebook", "finite_scalar", "lookup_free")


class Source(Enum):
    """Where a group's z comes from.

    The mean of a group of bits or classes is their most probable value; that of a quantizer's uniform prior, the mean
    code vector.
    """

    POSTERIOR = "posterior sample"
    POSTERIOR_MEAN = "posterior mean"
    PRIOR = "prior sample"
    PRIOR_MEAN = "prior mean"


@dataclass(frozen=True, slots=True)
class CodeMap:
    """A discrete latent's codes, integers from 0 to `classes` - 1 on a `grid` (height, width); a label has no grid."""

    name: str
    classes: int
    grid: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A source that is the value itself, `(N, Z, H, W)`, or a discrete group's codes, `(N, depth, H, W)` integers."""

    z: Tensor


Sources = Source | Given | Sequence[Source | Given]
