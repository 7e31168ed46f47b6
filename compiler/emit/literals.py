"""The one place where values become source: numbers, words and identifiers, checked; nothing else can be written."""

from __future__ import annotations

import ast
import math

from hvdsl.compiler.emit.names import identifier
from hvdsl.compiler.graph import Literal, Term


class _Quoted(str):
    """A string that `ast.unparse` writes in double quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        plain = repr(str(self))
        if plain.startswith("'") and '"' not in plain:
            return f'"{plain[1:-1]}"'
        return plain


def constant(value: str | int | float | bool | None) -> ast.expr:
    if isinstance(value, str):
        return ast.Constant(_Quoted(value))
    if isinstance(value, float) and not math.isfinite(value):
        return call("float", constant("nan" if math.isnan(value) else "inf" if value > 0 else "-inf"))
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def literal(value: Literal) -> ast.expr:
    """Write an argument: a number, a word, or a small call such as `scaled(0.5)`.

    Raises:
        ValueError: if a name in it is no identifier.
        TypeError: if it is nothing that a graph may hold.
    """
    if isinstance(value, Term):
        return call(value.name, *map(literal, value.args), **{k: literal(v) for k, v in value.options})
    if isinstance(value, tuple):
        return ast.Tuple([literal(v) for v in value], ast.Load())
    if value is None or isinstance(value, str | int | float | bool):
        return constant(value)
    raise TypeError(f"{type(value).__name__} is no literal")


def name(text: str) -> ast.Name:
    return ast.Name(identifier(text), ast.Load())


def dotted(base: str, *steps: str | int) -> ast.expr:
    """`dotted("self", "q", "conv", 0)` is `self.q.conv[0]`."""
    result: ast.expr = name(base)
    for step in steps:
        if isinstance(step, int):
            result = ast.Subscript(result, ast.Constant(step), ast.Load())
        else:
            result = ast.Attribute(result, identifier(step), ast.Load())
    return result


def call(function: str | ast.expr, *args: ast.expr, **options: ast.expr) -> ast.Call:
    head = name(function) if isinstance(function, str) else function
    return ast.Call(head, list(args), [ast.keyword(identifier(k), v) for k, v in options.items()])
