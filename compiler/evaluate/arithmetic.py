"""Values without tensors, those that stand for others among them, and what `+`, `==`, `sqrt` … mean on them."""

from __future__ import annotations

import math
import operator
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.graph import Literal, Term, Written
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span


class Invalid(Enum):
    INVALID = "invalid"

    def __repr__(self) -> str:
        return "INVALID"


INVALID = Invalid.INVALID
"""What could not be made: whatever touches it is invalid too, without a second report."""


class Described:
    """A value that no spec can write down: messages say what it is in these words.

    It has no metaclass, which `isinstance` would go through for each tensor: 80,000 times in a large spec.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def described(self) -> str:
        """What the value is, as a message says it."""


@record
class Totals(Record):
    """How often each recipe was placed, by (section, recipe), and how many latents the model has."""

    counts: Mapping[tuple[str, str], int]
    latents: int


class Deferred(float, Described):
    """A number made of `count` or `latents`, which are known when everything is placed.

    Until then it stands as 1.0 wherever a number is stored; `resolve` puts the true value in its place.
    """

    compute: Callable[[Totals], float | int]
    text: str = ""  # of the expression

    def __new__(cls, compute: Callable[[Totals], float | int]) -> Deferred:
        self = super().__new__(cls, 1.0)
        self.compute = compute
        return self

    @property
    def described(self) -> str:
        return "a number made of `count` or `latents`"


def deferred(compute: Callable[..., object], *operands: object) -> Deferred:
    """Postpone a computation of which at least one operand is deferred."""

    def later(totals: Totals) -> float | int:
        result = compute(*(v.compute(totals) if isinstance(v, Deferred) else v for v in operands))
        return result if isinstance(result, int | float) else math.nan

    return Deferred(later)


_PLAIN = frozenset({int, float, bool, str, type(None)})


def is_deferred(value: Literal) -> bool:
    """Whether a literal holds a deferred number anywhere."""
    kind = value.__class__
    if kind in _PLAIN:  # nearly all are: spare them the search
        return False
    if isinstance(value, Term):
        return any(map(is_deferred, value.args)) or any(is_deferred(v) for _, v in value.options)
    return kind is Deferred or (isinstance(value, tuple) and any(map(is_deferred, value)))


def resolve(value: Literal, totals: Totals) -> Literal:
    """Return a literal with its deferred numbers in place."""
    if isinstance(value, Deferred):
        number = value.compute(totals)
        return Written(number, value.text) if isinstance(number, float) and value.text else number
    if isinstance(value, Term):
        return Term(
            value.name,
            tuple(resolve(v, totals) for v in value.args),
            tuple((k, resolve(v, totals)) for k, v in value.options),
        )
    if isinstance(value, tuple):
        return tuple(resolve(v, totals) for v in value)
    return value


Number = int | float

# Larger whole numbers have no use in a spec, and computing with them could take for ever.
MOST = 2**62

_ARITHMETIC: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_ORDER: dict[str, Callable[[Number, Number], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ONE: dict[str, Callable[[Number], Number]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "sin": math.sin,
    "cos": math.cos,
    "floor": math.floor,
    "round": round,
    "abs": abs,
}
FUNCTIONS = ("min", "max", *_ONE, "len")
PI = "pi"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def describe(value: object) -> str:
    """Return a value as a person would write it, or what it is where nobody can."""
    if isinstance(value, Described):
        return value.described
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Term):
        words = [(None, a) for a in value.args] + list(value.options)  # inside a word a bare word is a text
        inner = [(f"{k} = " if k else "") + (v if isinstance(v, str) else describe(v)) for k, v in words]
        return f"{value.name}({', '.join(inner)})" if inner else value.name
    if isinstance(value, tuple) and any(isinstance(v, Described) for v in value):
        return f"a tuple of {len(value)}"
    if isinstance(value, tuple):
        return f"({', '.join(describe(v) for v in value)})"
    if isinstance(value, list):
        return f"[{', '.join(describe(v) for v in value)}]"
    return "a map" if isinstance(value, tree.MapNode) else "something else"


def as_number(value: object, span: Span) -> Number:
    """Return `value` if it is a number, else raise `Fault`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise Fault(codes.WRONG_KIND, "this is not a number", span, describe(value), "a number")


def as_switch(value: object, span: Span) -> bool:
    """Return `value` if it is `yes` or `no`, else raise `Fault`."""
    if isinstance(value, bool):
        return value
    raise Fault(
        codes.WRONG_KIND,
        "this is neither `yes` nor `no`",
        span,
        describe(value),
        "`yes`, `no` or a comparison",
    )


def as_integer(value: object, span: Span, what: str = "this") -> int:
    """Return `value` as a whole number; a float is accepted where it is exactly one."""
    n = as_number(value, span)
    if isinstance(n, float):
        if not n.is_integer():
            raise Fault(
                codes.NOT_AN_INTEGER,
                f"{what} is not a whole number",
                span,
                describe(n),
                "a whole number",
                "write `floor(…)` to round down",
            )
        n = int(n)
    return n


def _checked(compute: Callable[[], Number], span: Span) -> Number:
    try:
        result = compute()
    except ZeroDivisionError:
        raise Fault(codes.NOT_A_NUMBER, "division by zero", span) from None
    except (OverflowError, ValueError):
        raise Fault(codes.NOT_A_NUMBER, "this has no finite real value", span) from None
    if isinstance(result, complex):
        raise Fault(codes.NOT_A_NUMBER, "a fractional power of a negative number has no real value", span)
    if not math.isfinite(result) or (abs(result) > MOST and isinstance(result, int)):
        raise Fault(codes.NOT_A_NUMBER, "the result is too large", span, expected=f"at most {MOST:.0e} in size")
    return result


def _divide(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int) and b and a % b == 0:
        return a // b
    return a / b


def _power(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int) and b > 0 and abs(a) > 1 and b * (abs(a).bit_length() - 1) > 63:
        raise OverflowError
    result: Number = a**b
    return result


def binary(op: str, left: object, right: object, span: Span) -> Literal:
    """Evaluate arithmetic or a comparison on static values. `/` is exact: 6 / 2 is the whole number 3."""
    if op in ("==", "!="):
        same = is_number(left) == is_number(right) and left == right
        return same if op == "==" else not same
    a, b = as_number(left, span), as_number(right, span)
    if op in _ORDER:
        return _ORDER[op](a, b)
    if op == "/":
        return _checked(lambda: _divide(a, b), span)
    if op == "**":
        return _checked(lambda: _power(a, b), span)
    return _checked(lambda: _ARITHMETIC[op](a, b), span)


def function(name: str, arguments: Sequence[object], span: Span) -> Number:
    """Evaluate one of `FUNCTIONS`."""
    if name == "len":
        if len(arguments) == 1 and isinstance(arguments[0], tuple | list):
            return len(arguments[0])
        raise Fault(codes.WRONG_KIND, "`len` takes one list or tuple", span, ", ".join(map(describe, arguments)))
    numbers = [as_number(a, span) for a in arguments]
    if name in ("min", "max"):
        if not numbers:
            raise Fault(codes.WRONG_KIND, f"`{name}` takes at least one number", span)
        return min(numbers) if name == "min" else max(numbers)
    if len(numbers) != 1:
        raise Fault(codes.WRONG_KIND, f"`{name}` takes one number", span, f"{len(numbers)} arguments")
    return _checked(lambda: _ONE[name](numbers[0]), span)
