"""Pixel maps: the expressions in `v` that say what the encoder receives and what the likelihood scores.

`v` is the raw pixel, 0 … 2^bits - 1 (0 or 1 once binarised). A map is evaluated like every expression, with a
symbolic `v`: the result can be computed here for every pixel value, printed, and emitted as tensor code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from hvdsl.compiler.diagnostics.settings import BAD_PIXEL_MAP
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import Described
from hvdsl.compiler.evaluate.constants import Constants
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.printer import print_expression
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import read_expression

_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "floor": math.floor,
    "round": round,
    "abs": abs,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "sin": math.sin,
    "cos": math.cos,
}
_OF_TWO = ("min", "max")


@record
class PixelFormula(Described, Record):
    """An expression in `v`, in which every other name is replaced by its number."""

    expr: tree.Expr
    compute: Callable[[float], float] = field(compare=False, repr=False)

    @property
    def described(self) -> str:
        return f"`{self.text}`"

    @property
    def text(self) -> str:
        """The expression in canonical spelling."""
        return print_expression(self.expr)

    def __call__(self, v: float) -> float:
        """Return the value where each image that it is of has the pixel `v`.

        Raises:
            ArithmeticError, ValueError: there is none.
        """
        value = self.compute(v)
        if isinstance(value, complex):
            raise ValueError("a root of a negative number")
        return float(value)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The images that it is of, in the order of their names: `v`, or fields."""
        return tuple(sorted(set(_symbols(self.expr))))

    def torch(self, names: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return the expression as Python text on float tensors, written with `torch.`; `names` are other names."""
        return _torch(self.expr, names)


V = "v"
"""The pixel, in an expression."""


def parse_pixel_map(text: str, symbols: Sequence[str] = (V,)) -> PixelFormula:
    """Return the map that a canonical text, as `Data.input` holds it, stands for."""
    return pixel_map(read_expression(Source("<pixel map>", text)), {}, symbols)


def pixel_map(expr: tree.Expr, lets: Mapping[str, tree.Expr], symbols: Sequence[str] = (V,)) -> PixelFormula:
    """Evaluate an expression with a symbolic `v`, or other `symbols`. Raises `SpecError`."""
    value = _PixelMaps(lets, symbols).evaluate(expr)
    return _as_map(value, expr.span)


def _symbols(expr: tree.Expr) -> Iterator[str]:
    match expr:
        case tree.Name():
            yield expr.id
        case tree.Unary():
            yield from _symbols(expr.operand)
        case tree.Binary():
            yield from _symbols(expr.left)
            yield from _symbols(expr.right)
        case tree.Call():
            for argument in expr.arguments:
                yield from _symbols(argument.value)


def _as_map(value: object, span: Span) -> PixelFormula:
    if isinstance(value, PixelFormula):
        return value
    if isinstance(value, int | float) and arithmetic.is_number(value):
        fixed = float(value)
        return PixelFormula(number_tree(value, span), lambda v: fixed)
    raise _fault(span, "this does not map pixels", arithmetic.describe(value), "use arithmetic on `v` only")


def _fault(span: Span, message: str, found: str, help: str) -> Fault:
    allowed = "`v` and numbers with + - * / // % ** " + " ".join(_FUNCTIONS)
    return Fault(BAD_PIXEL_MAP, message, span, found, allowed, help)


class _PixelMaps(Constants):
    """Constants and the pixel `v` (or fields), which hide a `let` of that name."""

    def __init__(self, lets: Mapping[str, tree.Expr], symbols: Sequence[str]) -> None:
        span = Span(Source("<pixel>", "v"), 0, 1)
        super().__init__(lets, {name: PixelFormula(tree.Name(name, span=span), lambda v: v) for name in symbols})
        self.places = " or ".join([*(f"`{name}`" for name in symbols), "a `let`"])

    def operate(self, expr: tree.Binary, left: object, right: object, environment: None) -> object:
        if not isinstance(left, PixelFormula) and not isinstance(right, PixelFormula):
            return super().operate(expr, left, right, environment)
        if expr.operator not in _OPERATORS:
            message = f"`{expr.operator}` does not map pixels"
            raise _fault(expr.span, message, f"`{print_expression(expr)}`", "use arithmetic on `v` only")
        a, b = _as_map(left, expr.left.span), _as_map(right, expr.right.span)
        apply, first, second = _OPERATORS[expr.operator], a.compute, b.compute
        joined = tree.Binary(expr.operator, a.expr, b.expr, span=expr.span)
        return PixelFormula(joined, lambda v: apply(first(v), second(v)))

    def negate(self, expr: tree.Unary, value: object) -> object:
        if not isinstance(value, PixelFormula) or expr.operator != "-":
            return super().negate(expr, value)
        inner = value.compute
        return PixelFormula(tree.Unary("-", value.expr, span=expr.span), lambda v: -inner(v))

    def function(self, name: str, expr: tree.Call, environment: None) -> object:
        values = [self.evaluate(a.value) for a in expr.arguments]
        if not any(isinstance(v, PixelFormula) for v in values):
            return super().function(name, expr, environment)
        wanted = 2 if name in _OF_TWO else 1
        if name not in _FUNCTIONS:
            raise _fault(expr.span, f"`{name}` does not map pixels", f"`{name}(…)`", did_you_mean(name, _FUNCTIONS))
        if len(values) != wanted or any(a.name is not None for a in expr.arguments):
            noun = "argument" if wanted == 1 else "arguments"
            raise _fault(expr.span, f"`{name}` takes {wanted} {noun}", f"{len(values)}", "correct the call")
        maps = [_as_map(v, a.value.span) for v, a in zip(values, expr.arguments, strict=True)]
        arguments = tuple(
            tree.ArgumentNode(None, m.expr, span=a.span) for m, a in zip(maps, expr.arguments, strict=True)
        )
        apply = _FUNCTIONS[name]
        computes = tuple(m.compute for m in maps)
        call = tree.Call(expr.function, arguments, span=expr.span)
        return PixelFormula(call, lambda v: apply(*(compute(v) for compute in computes)))


def number_tree(value: int | float, span: Span) -> tree.Expr:
    """Return the tree of a number; a negative one is a minus and its size."""
    size: tree.Expr = tree.Number(repr(abs(value)), span=span)
    return tree.Unary("-", size, span=span) if value < 0 else size


# Binding strength of Python's operators, for the fewest parentheses.
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
_UNARY = 3
_ATOM = 5


def _strength(expr: tree.Expr) -> int:
    if isinstance(expr, tree.Binary):
        return _STRENGTH[expr.operator]
    return _UNARY if isinstance(expr, tree.Unary) else _ATOM


def _torch(expr: tree.Expr, names: Mapping[str, str]) -> str:
    def inner(part: tree.Expr, least: int) -> str:
        text = _torch(part, names)
        return text if _strength(part) >= least else f"({text})"

    match expr:
        case tree.Number():
            return repr(expr.value)
        case tree.Name():
            return names.get(expr.id, expr.id)
        case tree.Unary():
            return f"-{inner(expr.operand, _UNARY)}"
        case tree.Binary():
            own = _STRENGTH[expr.operator]
            right_first = expr.operator == "**"  # the only one that associates to the right
            left = inner(expr.left, own + 1 if right_first else own)
            right = inner(expr.right, own if right_first else own + 1)
            return f"{left} {expr.operator} {right}"
        case tree.Call(function=tree.Name(id=name)):
            return _torch_call(name, [a.value for a in expr.arguments], names)
    raise TypeError(f"{type(expr).__name__} in a checked pixel map")


def _torch_call(name: str, arguments: Sequence[tree.Expr], names: Mapping[str, str]) -> str:
    """`min(v, 3)` is a clamp; two tensors are compared elementwise."""
    texts = [_torch(a, names) for a in arguments]
    if name not in _OF_TWO:
        return f"torch.{name}({texts[0]})"
    moving = [not isinstance(a, tree.Number) and not _is_negative(a) for a in arguments]
    if all(moving):
        return f"torch.{name}imum({texts[0]}, {texts[1]})"
    tensor, bound = texts if moving[0] else reversed(texts)
    return f"torch.clamp({tensor}, {'max' if name == 'min' else 'min'}={bound})"


def _is_negative(expr: tree.Expr) -> bool:
    return isinstance(expr, tree.Unary) and isinstance(expr.operand, tree.Number)
