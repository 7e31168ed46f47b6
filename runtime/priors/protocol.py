"""What the runtime asks of a second-stage prior: the form that emitted code has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor, nn

from hvdsl.errors import HvdslError


@dataclass(frozen=True, slots=True)
class CodeMap:
    """A discrete latent's codes, integers from 0 to `classes` - 1 on a `grid` (height, width); a label has no grid."""

    name: str
    classes: int
    grid: tuple[int, int] | tuple[()]
