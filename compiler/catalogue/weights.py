"""How weights start, which of them are masked, and how they are normalised: once for every operation that owns some.

`fan_in` is PyTorch's default for convolutions and dense layers: uniform in ±1/sqrt(fan in), for weights and
biases alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hvdsl.compiler.catalogue.rules import complete, literal_text, number, optional_term, switch, term
from hvdsl.compiler.catalogue.table import (
    FROM_ZERO,
    OWN,
    POSITIVE,
    Args,
    Argument,
    ArgumentType,
    Offset,
    OperationError,
    Reads,
    Word,
)
from hvdsl.compiler.graph import Literal, Parameter, Term
from hvdsl.grammar.record import Record, record

FAN_IN = Term("fan_in")
ZEROS = Term("zeros")
ONES = Term("ones")

WEIGHT_INITS = ("fan_in", "zeros", "ones", "gaussian", "uniform", "orthogonal", "scaled")
MAP_INITS = ("zeros", "ones", "gaussian", "uniform")


def _number(name: str, doc: str) -> Argument:
    return Argument(name, ArgumentType.NUMBER, doc=doc)


INIT_CALLS = (
    Word("gaussian", (_number("s", "standard deviation"),)),
    Word("uniform", (_number("a", "least value"), _number("b", "largest value"))),
    Word("scaled", (_number("f", "factor on the default"),)),
)
INIT = Argument(
    "init",
    ArgumentType.WORD,
    FAN_IN,
    WEIGHT_INITS,
    "initial weights; `scaled(f)` is the default times f",
    calls=INIT_CALLS,
)
BIAS_INIT = Argument("bias_init", ArgumentType.WORD, FAN_IN, WEIGHT_INITS, "initial bias", calls=INIT_CALLS)


def checked_init(term: Term) -> Term:
    """The initialiser with its arguments in the order of their declaration."""
    values = complete(term, INIT)
    return Term(term.name, tuple(_real(number(values, name)) for name in values))


def _real(value: float) -> float:
    """The number as a float, with the text that it was written as, if it has one."""
    return value if isinstance(value, float) else float(value)


def constant_init(value: float) -> Term:
    """The initialiser that fills with one number."""
    if value == 0:
        return ZEROS
    return ONES if value == 1 else Term("constant", (float(value),))


def init_options(args: Args) -> tuple[tuple[str, Literal], ...]:
    """The options of an emitted layer that say how weight and bias start, where that is not the default."""
    weight, bias = checked_init(term(args, "init")), checked_init(term(args, "bias_init"))
    options: list[tuple[str, Literal]] = []
    if weight != FAN_IN:
        options.append(("weight_init", weight))
    if switch(args, "bias") and bias != FAN_IN:
        options.append(("bias_init", bias))
    return tuple(options)


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
        raise OperationError(
            "a masked convolution has stride 1", found=literal_text(args["stride"]), expected="`stride = 1`"
        )
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


NORM = Argument(
    "norm",
    ArgumentType.WORD,
    None,
    ("none", "weight"),
    "`weight(gain = linear | log, eps, start)`: weight norm",
    calls=(
        Word(
            "weight",
            (
                Argument("gain", ArgumentType.WORD, Term("linear"), ("linear", "log"), "how the gain is stored"),
                Argument("eps", ArgumentType.NUMBER, 0.0, doc="added to the norm", bounds=FROM_ZERO),
                Argument(
                    "start",
                    ArgumentType.WORD,
                    Term("raw"),
                    ("raw", "from_batch"),
                    "how gains and biases begin",
                    calls=(
                        Word("from_batch", (Argument("std", ArgumentType.NUMBER, doc="deviation", bounds=POSITIVE),)),
                    ),
                ),
            ),
        ),
    ),
)
_START = NORM.takes("weight")[2]
GAIN = Argument("gain", ArgumentType.NUMBER, 1.0, doc="factor on the first gain of weight norm")


@record
class CheckedWeightNorm(Record):
    """A checked `weight(…)`: is the gain stored as its logarithm; the deviation of a data-dependent start."""

    log: bool
    eps: float
    from_batch: float | None


def weight_norm(args: Args) -> CheckedWeightNorm | None:
    """What `norm` says, or None without weight norm."""
    norm = optional_term(args, "norm")
    if norm is None or norm.name == "none":
        return None
    values = complete(norm, NORM)
    start = complete(term(values, "start"), _START)
    deviation = float(number(start, "std")) if start else None
    return CheckedWeightNorm(term(values, "gain").name == "log", float(number(values, "eps")), deviation)


def gain_parameters(args: Args, weight: tuple[int, ...], channel_axis: int = 0) -> tuple[Parameter, ...]:
    """The gain of weight norm, one per output channel and broadcastable to the weight, or nothing.

    Its first value is the norm of the first weight (times the argument `gain`), so that normalising changes
    nothing at the start.
    """
    norm = weight_norm(args)
    if norm is None:
        return ()
    shape = tuple(n if axis == channel_axis else 1 for axis, n in enumerate(weight))
    init = Term("norm_of_weight", (float(number(args, "gain")),), (("log", norm.log),))
    return (Parameter("gain", shape, init),)


def norm_option(args: Args) -> tuple[tuple[str, Literal], ...]:
    """The option `norm` of an emitted layer, if there is weight norm."""
    norm = weight_norm(args)
    if norm is None:
        return ()
    options: list[tuple[str, Literal]] = []
    if norm.log:
        options.append(("gain", "log"))
    if norm.eps:
        options.append(("eps", norm.eps))
    if number(args, "gain") != 1:
        options.append(("scale", float(number(args, "gain"))))
    if norm.from_batch is not None:
        options.append(("start", norm.from_batch))
    return (("norm", Term("WeightNorm", (), tuple(options))),)
