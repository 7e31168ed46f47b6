"""What an output position reads of an operand's map."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeAlias

Offset: TypeAlias = tuple[int, int]  # (row, column) from an output's own position
OWN: Offset = (0, 0)


class Window(NamedTuple):
    """How far an output position looks along one axis.

    Output position i reads input positions i * stride // up + offset, offset in [first, last]; `everywhere` overrides.
    """

    first: int = 0
    last: int = 0
    stride: int = 1
    up: int = 1
    everywhere: bool = False


class Past(StrEnum):
    """What precedes a position in raster order, be it far away."""

    STRICT = "strict"
    INCLUSIVE = "inclusive"  # and the position itself


class Reads(NamedTuple):
    """The positions of one operand's map that an output position is made of: those in `rows` and in `columns`.

    Of these only the offsets `taps`, where a mask takes others away; only what precedes in raster order, with `past`.
    `mirrored`: what lies beyond the border is a position inside again, and not zero.
    """

    rows: Window = Window()
    columns: Window = Window()
    taps: tuple[Offset, ...] | None = None
    past: Past | None = None
    mirrored: bool = False

    @property
    def offsets(self) -> tuple[Offset, ...] | None:
        """The positions, from the output's own; None where these are not the same offsets everywhere."""
        axes = (self.rows, self.columns)
        if self.mirrored or any(w.everywhere or w.stride != 1 or w.up != 1 for w in axes):
            return None
        if self.taps is not None:
            return self.taps
        rows, columns = (range(w.first, w.last + 1) for w in axes)
        return tuple((row, column) for row in rows for column in columns)


OWN_POSITION = Reads()
WHOLE_MAP = Reads(Window(everywhere=True), Window(everywhere=True))
