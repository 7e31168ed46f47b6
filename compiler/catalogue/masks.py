"""`mask = causal(at, mirror)`: which kernel elements of a convolution take part.

Kernel elements before the output's own position in raster order stay. At the position itself, `at` says which
channels stay: `exclude` none, `before` the earlier ones, `upto` the earlier and the own, `all`. `mirror`
turns space, not channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hvdsl.compiler.catalogue.reads import OWN, Offset, Reads
from hvdsl.compiler.catalogue.table import Args, Argument, ArgumentType, OperationError, Word
from hvdsl.compiler.catalogue.values import complete, optional_term, switch, term, text

MASK = Argument(
    "mask",
    ArgumentType.WORD,
    None,
    ("none", "causal"),
    "`causal(at, mirror = no)`, at = `exclude | before | upto | all`: see what precedes in raster order",
    calls=(
        Word(
            "causal",
            (
                Argument(
                    "at",
                    ArgumentType.WORD,
                    words=("exclude", "before", "upto", "all"),
                    doc="the channels that stay at the position itself",
                ),
                Argument("mirror", ArgumentType.SWITCH, False, doc="turn space around"),
            ),
        ),
    ),
)


class Mask(NamedTuple):
    at: str
    mirror: bool


def causal_mask(args: Args, channels: int, out: int) -> Mask | None:
    """What `mask` says, or None without one.

    Raises:
        OperationError: for a stride, or if the channels of input and output are no multiples
        of each other where they count.
    """
    mask = optional_term(args, "mask")
    if mask is None or mask.name == "none":
        return None
    values = complete(mask, MASK)
    at, mirror = term(values, "at").name, switch(values, "mirror")
    if "stride" in args and args["stride"] != (1, 1):
        raise OperationError("a masked convolution has stride 1", found=text(args["stride"]), expected="`stride = 1`")
    if at in ("before", "upto") and channels % out and out % channels:
        raise OperationError(
            "the mask needs channels that divide",
            found=f"{channels} channels in, {out} out",
            expected="one a multiple of the other",
        )
    return Mask(at, mirror)


def masked(reads: Reads, mask: Mask | None, offsets: Sequence[Offset]) -> Reads:
    """A kernel's window without the elements that a mask takes away."""
    if mask is None:
        return reads
    taps = [o for o in offsets if (o == OWN and mask.at != "exclude") or (o != OWN and (o < OWN) != mask.mirror)]
    if not taps:
        return reads._replace(taps=())
    (top, bottom), (left, right) = ((min(axis), max(axis)) for axis in zip(*taps, strict=True))
    rows, columns = reads.rows._replace(first=top, last=bottom), reads.columns._replace(first=left, last=right)
    return reads._replace(rows=rows, columns=columns, taps=tuple(taps))
