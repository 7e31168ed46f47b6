"""Initial values as a spec says them, checked once for every operation that owns parameters.

`fan_in` is PyTorch's default for convolutions and dense layers: uniform in ±1/sqrt(fan in), for weights and
biases alike.
"""

from __future__ import annotations

from hvdsl.compiler.catalogue.table import Args, Argument, ArgumentType, Word
from hvdsl.compiler.catalogue.values import complete, number, switch, term
from hvdsl.compiler.graph import Literal, Term

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


def checked(term: Term) -> Term:
    """The initialiser with its arguments in the order of their declaration."""
    values = complete(term, INIT)
    return Term(term.name, tuple(_real(number(values, name)) for name in values))


def _real(value: float) -> float:
    """The number as a float, with the text that it was written as, if it has one."""
    return value if isinstance(value, float) else float(value)


def constant(value: float) -> Term:
    """The initialiser that fills with one number."""
    if value == 0:
        return ZEROS
    return ONES if value == 1 else Term("constant", (float(value),))


def init_options(args: Args) -> tuple[tuple[str, Literal], ...]:
    """The options of an emitted layer that say how weight and bias start, where that is not the default."""
    weight, bias = checked(term(args, "init")), checked(term(args, "bias_init"))
    options: list[tuple[str, Literal]] = []
    if weight != FAN_IN:
        options.append(("weight_init", weight))
    if switch(args, "bias") and bias != FAN_IN:
        options.append(("bias_init", bias))
    return tuple(options)
