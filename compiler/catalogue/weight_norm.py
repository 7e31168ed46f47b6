"""`norm = weight(gain, eps, start)`: w = g v / (|v| + eps), one gain per output channel (Salimans & Kingma
2016).

`gain = log` stores log g. `start = from_batch(std)` sets gains and biases from a first batch so that every
channel leaves with mean 0 and that deviation. The norm is taken of the masked weight.
"""

from __future__ import annotations

from hvdsl.compiler.catalogue.table import FROM_ZERO, POSITIVE, Args, Argument, ArgumentType, Word
from hvdsl.compiler.catalogue.values import complete, number, optional_term, term
from hvdsl.compiler.graph import Literal, Parameter, Term
from hvdsl.grammar.record import Record, record

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
class WeightNorm(Record):
    """A checked `weight(…)`: is the gain stored as its logarithm; the deviation of a data-dependent start."""

    log: bool
    eps: float
    from_batch: float | None


def weight_norm(args: Args) -> WeightNorm | None:
    """What `norm` says, or None without weight norm."""
    norm = optional_term(args, "norm")
    if norm is None or norm.name == "none":
        return None
    values = complete(norm, NORM)
    start = complete(term(values, "start"), _START)
    deviation = float(number(start, "std")) if start else None
    return WeightNorm(term(values, "gain").name == "log", float(number(values, "eps")), deviation)


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
