"""Helpers for the rules that write an operation as source text. Operands may be any expression: rules put
them in calls, or in parentheses that the emitter's printer drops again where they are not needed."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.table import Args, ExpressionRule, IntoRule
from hvdsl.compiler.graph import Shape


def template(text: str) -> ExpressionRule:
    """`template("F.gelu({0})")`: operands by number, arguments by name."""

    def rule(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
        return text.format(*operands, **{name: repr(value) for name, value in args.items()})

    return rule


def into(text: str) -> IntoRule:
    """`into("silu({0})")`: the same call with `out` writes into a buffer."""
    return lambda operands, args: text.format(*operands)


def short(pair: tuple[int, int]) -> str:
    """`2` for `(2, 2)`."""
    return str(pair[0]) if pair[0] == pair[1] else str(pair)
