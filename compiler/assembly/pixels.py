"""Pixel maps: the expressions in `v` that say what the encoder receives and what the likelihood scores.

`v` is the raw pixel, 0 … 2^bits - 1 (0 or 1 once binarised). A map is a closed little language of arithmetic,
so that it can be evaluated here over every pixel value, and emitted as tensor code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hvdsl.compiler.diagnostics.settings import BAD_PIXEL_MAP
from hvdsl.compiler.evaluate.arithmetic import describe, is_number
from hvdsl.compiler.evaluate.constants import constant
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.printer import print_expression
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
    "log": math.log,
}
_BINARY_FUNCTIONS = ("min", "max")
_DEEPEST = 60


@dataclass(frozen=True, slots=True)
class PixelMap:
    """A checked expression in `v`, every other name replaced by its number."""

    expr: tree.Expr

    @property
    def text(self) -> str:
        """The expression in canonical spelling."""
        return print_expression(self.expr)

    def __call__(self, v: float) -> float:
        """Return the value for one pixel. Raises `ArithmeticError` or `ValueError` where there is none."""
        return float(_evaluate(self.expr, v))

    def torch(self, v: str = "v") -> str:
        """Return the expression as Python text on a float tensor named `v`, written with `torch.`."""
        return _torch(self.expr, v)


def parse_pixel_map(text: str) -> PixelMap:
    """Return the map that a canonical text, as `Data.input` holds it, stands for."""
    return pixel_map(read_expression(Source("<pixel map>", text)), {})


def pixel_map(expr: tree.Expr, lets: Mapping[str, tree.Expr]) -> PixelMap:
    """Check an expression in `v` and fold the `let`s into it. Raises `SpecError` (HV0607)."""
    return PixelMap(_fold(expr, lets, 0))


def _fault(expr: tree.Expr, message: str, found: str, help: str) -> SpecError:
    allowed = "`v` and numbers with + - * / // % ** " + " ".join(_FUNCTIONS)
    return SpecError([Diagnostic(BAD_PIXEL_MAP, message, expr.span, found, allowed, help)])


def _fold(expr: tree.Expr, lets: Mapping[str, tree.Expr], depth: int) -> tree.Expr:
    if depth > _DEEPEST:
        raise _fault(expr, f"nested more than {_DEEPEST} deep", "a deep expression", "simplify it")
    match expr:
        case tree.Number() | tree.Name(id="v"):
            return expr
        case tree.Name():
            return _named(expr, lets, depth)
        case tree.Unary(operator="-"):
            return tree.Unary("-", _fold(expr.operand, lets, depth + 1), span=expr.span)
        case tree.Binary() if expr.operator in _OPERATORS:
            left, right = _fold(expr.left, lets, depth + 1), _fold(expr.right, lets, depth + 1)
            return tree.Binary(expr.operator, left, right, span=expr.span)
        case tree.Call(function=tree.Name(id=name)) if name in _FUNCTIONS:
            return _folded_call(expr, name, lets, depth)
        case tree.Call(function=tree.Name(id=name)):
            raise _fault(expr, f"`{name}` does not map pixels", f"`{name}(…)`", did_you_mean(name, _FUNCTIONS))
    raise _fault(expr, "this does not map pixels", f"`{print_expression(expr)}`", "use arithmetic on `v` only")


def _named(expr: tree.Name, lets: Mapping[str, tree.Expr], depth: int) -> tree.Expr:
    """Replace a `let` by its number."""
    if expr.id not in lets:
        raise _fault(expr, f"unknown name `{expr.id}`", f"`{expr.id}`", did_you_mean(expr.id, ["v", *lets]))
    value = constant(lets[expr.id], lets)
    if not isinstance(value, int | float) or not is_number(value):
        raise _fault(expr, f"`{expr.id}` is no number", describe(value), "give the `let` a number")
    return number(value, expr.span)


def number(value: int | float, span: Span) -> tree.Expr:
    """Return the tree of a number; a negative one is a minus and its size."""
    size: tree.Expr = tree.Number(repr(abs(value)), span=span)
    return tree.Unary("-", size, span=span) if value < 0 else size


def _folded_call(expr: tree.Call, name: str, lets: Mapping[str, tree.Expr], depth: int) -> tree.Expr:
    wanted = 2 if name in _BINARY_FUNCTIONS else 1
    if len(expr.arguments) != wanted or any(a.name is not None for a in expr.arguments):
        noun = "argument" if wanted == 1 else "arguments"
        raise _fault(expr, f"`{name}` takes {wanted} {noun}", f"{len(expr.arguments)}", "correct the call")
    arguments = tuple(tree.Argument(None, _fold(a.value, lets, depth + 1), span=a.span) for a in expr.arguments)
    return tree.Call(expr.function, arguments, span=expr.span)


def _evaluate(expr: tree.Expr, v: float) -> float:
    match expr:
        case tree.Number():
            return expr.value
        case tree.Name():
            return v
        case tree.Unary():
            return -_evaluate(expr.operand, v)
        case tree.Binary():
            value = _OPERATORS[expr.operator](_evaluate(expr.left, v), _evaluate(expr.right, v))
            if isinstance(value, complex):
                raise ValueError("a root of a negative number")
            return value
        case tree.Call(function=tree.Name(id=name)):
            return _FUNCTIONS[name](*(_evaluate(a.value, v) for a in expr.arguments))
    raise TypeError(f"{type(expr).__name__} in a checked pixel map")


# Binding strength of Python's operators, for the fewest parentheses.
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
_UNARY = 3
_ATOM = 5


def _strength(expr: tree.Expr) -> int:
    if isinstance(expr, tree.Binary):
        return _STRENGTH[expr.operator]
    return _UNARY if isinstance(expr, tree.Unary) else _ATOM


def _torch(expr: tree.Expr, v: str) -> str:
    def inner(part: tree.Expr, least: int) -> str:
        text = _torch(part, v)
        return text if _strength(part) >= least else f"({text})"

    match expr:
        case tree.Number():
            return repr(expr.value)
        case tree.Name():
            return v
        case tree.Unary():
            return f"-{inner(expr.operand, _UNARY)}"
        case tree.Binary():
            own = _STRENGTH[expr.operator]
            right_first = expr.operator == "**"  # the only one that associates to the right
            left = inner(expr.left, own + 1 if right_first else own)
            right = inner(expr.right, own if right_first else own + 1)
            return f"{left} {expr.operator} {right}"
        case tree.Call(function=tree.Name(id=name)):
            return _torch_call(name, [a.value for a in expr.arguments], v)
    raise TypeError(f"{type(expr).__name__} in a checked pixel map")


def _torch_call(name: str, arguments: list[tree.Expr], v: str) -> str:
    """Numbers alone are folded; `min(v, 3)` is a clamp; two tensors are compared elementwise."""
    moving = [_depends(a) for a in arguments]
    if not any(moving):
        return repr(float(_FUNCTIONS[name](*(_evaluate(a, 0.0) for a in arguments))))
    texts = [_torch(a, v) for a in arguments]
    if name not in _BINARY_FUNCTIONS:
        return f"torch.{name}({texts[0]})"
    if all(moving):
        return f"torch.{name}imum({texts[0]}, {texts[1]})"
    tensor, bound = texts if moving[0] else reversed(texts)
    return f"torch.clamp({tensor}, {'max' if name == 'min' else 'min'}={bound})"


def _depends(expr: tree.Expr) -> bool:
    match expr:
        case tree.Name():
            return True
        case tree.Unary():
            return _depends(expr.operand)
        case tree.Binary():
            return _depends(expr.left) or _depends(expr.right)
        case tree.Call():
            return any(_depends(a.value) for a in expr.arguments)
    return False
