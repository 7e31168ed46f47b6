"""Shape rules that many operations share, and how shapes are written in messages."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.table import Args, OperationError
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
