"""Rules that many entries share: of shapes, and of the source text that an operation is written as.

Operands of a text may be any expression: rules put them in calls, or in parentheses that the emitter's printer drops
again where they are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.table import Args, ExpressionRule, IntoRule, OperationError
from hvdsl.compiler.graph import Shape


def show(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)


def size(shape: Shape) -> int:
    """Elements per image."""
    return shape[0] * shape[1] * shape[2]


def positions(shape: Shape) -> int:
    return shape[1] * shape[2]


def same(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    """The output is as the (first) input."""
    return (inputs[0],)


def broadcast(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    """Elementwise over two tensors: only 1x1 maps and single channels broadcast.

    Raises:
        OperationError: if the shapes differ in any other way.
    """
    a, b = inputs
    channels = a[0] == b[0] or 1 in (a[0], b[0])
    maps = a[1:] == b[1:] or (1, 1) in (a[1:], b[1:])
    if not (channels and maps):
        differ = "channels" if maps else "maps" if channels else "channels and maps"
        raise OperationError(
            f"these two have different {differ}",
            found=f"{show(a)} and {show(b)}",
            expected="equal shapes; only 1x1 maps and single channels broadcast",
        )
    return ((max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])),)


def equal(inputs: Sequence[Shape], what: str) -> Shape:
    """The one shape of all inputs.

    Raises:
        OperationError: if they differ.
    """
    if len(set(inputs)) != 1:
        raise OperationError(
            f"{what} must have one shape", found=", ".join(show(s) for s in inputs), expected="equal shapes"
        )
    return inputs[0]


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
