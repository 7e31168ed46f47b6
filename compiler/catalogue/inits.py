"""Initial values as a spec says them, checked once for every operation that owns parameters.

`fan_in` is PyTorch's default for convolutions and dense layers: uniform in ±1/sqrt(fan in), for weights and
biases alike.
"""

from __future__ import annotations

from hvdsl.compiler.catalogue.table import Args, Argument, ArgumentType, OperationError
from hvdsl.compiler.catalogue.values import bind, switch, term, text
from hvdsl.compiler.graph import Literal, Term

FAN_IN = Term("fan_in")
ZEROS = Term("zeros")
ONES = Term("ones")

WEIGHT_INITS = ("fan_in", "zeros", "ones", "gaussian", "uniform", "orthogonal", "scaled")
MAP_INITS = ("zeros", "ones", "gaussian", "uniform")

_ARGUMENTS = {
    "fan_in": (),
    "zeros": (),
    "ones": (),
    "orthogonal": (),
    "gaussian": ("s",),
    "uniform": ("a", "b"),
    "scaled": ("f",),
}

INIT = Argument("init", ArgumentType.WORD, FAN_IN, WEIGHT_INITS, "initial weights; `scaled(f)` is the default times f")
BIAS_INIT = Argument("bias_init", ArgumentType.WORD, FAN_IN, WEIGHT_INITS, "initial bias")


def checked(term: Term) -> Term:
    """The initialiser with all its arguments in place.

    Raises:
        OperationError: if an argument is missing, is too many or is no number.
    """
    names = _ARGUMENTS[term.name]
    values = bind(term, tuple((name, None) for name in names), required=len(names))
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise OperationError(f"`{name}` of `{term.name}` must be a number", found=text(value))
    return Term(term.name, tuple(float(v) for v in values.values() if isinstance(v, (int, float))))


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
