"""`norm = weight(gain, eps, start)`: w = g v / (|v| + eps), one gain per output channel (Salimans & Kingma
2016).

`gain = log` stores log g. `start = from_batch(std)` sets gains and biases from a first batch so that every
channel leaves with mean 0 and that deviation. The norm is taken of the masked weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from hvdsl.compiler.catalogue.table import Args, Argument, ArgumentType, OperationError
from hvdsl.compiler.catalogue.values import bind, number, optional_term, text
from hvdsl.compiler.graph import Literal, Parameter, Term

NORM = Argument(
    "norm",
    ArgumentType.WORD,
    None,
    ("none", "weight"),
    "`weight(gain = linear | log, eps, start)`: weight norm",
)
GAIN = Argument("gain", ArgumentType.NUMBER, 1.0, doc="factor on the first gain of weight norm")


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """A checked `weight(…)`: is the gain stored as its logarithm; the deviation of a data-dependent start."""

    log: bool
    eps: float
    from_batch: float | None


def weight_norm(args: Args) -> WeightNorm | None:
    """What `norm` says, or None without weight norm.

    Raises:
        OperationError: for words or numbers that weight norm does not know.
    """
    norm = optional_term(args, "norm")
    if norm is None or norm.name == "none":
        return None
    given = bind(norm, (("gain", "linear"), ("eps", 0.0), ("start", "raw")))
    gain, eps, start = given["gain"], given["eps"], given["start"]
    if gain not in ("linear", "log"):
        raise OperationError("unknown gain of weight norm", found=text(gain), expected="`linear` or `log`")
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or eps < 0:
        raise OperationError("`eps` of weight norm must be a number of at least 0", found=text(eps))
    return WeightNorm(gain == "log", float(eps), _deviation(start))


def _deviation(start: object) -> float | None:
    if start == "raw" or start == Term("raw"):
        return None
    if isinstance(start, Term) and start.name == "from_batch":
        deviation = bind(start, (("std", None),), required=1)["std"]
        if not isinstance(deviation, bool) and isinstance(deviation, (int, float)) and deviation > 0:
            return float(deviation)
    raise OperationError("unknown start of weight norm", expected="`raw` or `from_batch(std)` with std above 0")


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
