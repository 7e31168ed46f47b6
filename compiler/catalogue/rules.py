"""What many entries share: typed reading of their arguments, rules of shapes, texts that operations are written as.

Arguments were checked before: a wrong type here is a bug, a `TypeError`. Operands of a text may be any expression:
rules put them in calls, or in parentheses that the emitter's printer drops again where they are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    ExpressionRule,
    IntoRule,
    OperationError,
    Required,
)
from hvdsl.compiler.graph import Literal, Shape, Term


def integer(args: Args, name: str) -> int:
    value = args[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"argument {name} should be an integer, is {value!r}")
    return value


def number(args: Args, name: str) -> float:
    value = args[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"argument {name} should be a number, is {value!r}")
    return value


def switch(args: Args, name: str) -> bool:
    value = args[name]
    if not isinstance(value, bool):
        raise TypeError(f"argument {name} should be yes or no, is {value!r}")
    return value


def integers(args: Args, name: str) -> tuple[int, ...]:
    value = args[name]
    if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
        raise TypeError(f"argument {name} should be integers, is {value!r}")
    return tuple(v for v in value if isinstance(v, int))


def pair(args: Args, name: str) -> tuple[int, int]:
    """A kernel, stride or grid: (height, width)."""
    first, second = integers(args, name)
    return first, second


def term(args: Args, name: str) -> Term:
    value = args[name]
    if isinstance(value, str):
        return Term(value)
    if not isinstance(value, Term):
        raise TypeError(f"argument {name} should be a word, is {value!r}")
    return value


def optional_term(args: Args, name: str) -> Term | None:
    return None if args[name] is None else term(args, name)


def positive_integer(args: Args, name: str) -> int:
    """An integer of at least 1.

    Raises:
        OperationError: for any other.
    """
    value = integer(args, name)
    if value < 1:
        raise OperationError(f"`{name}` must be at least 1", found=str(value), expected="1 or more")
    return value


MOST_POSITIONS = 2**18  # of a kernel


def positive_pair(args: Args, name: str) -> tuple[int, int]:
    """A kernel, stride or factor of at least 1x1.

    Raises:
        OperationError: for any other.
    """
    height, width = pair(args, name)
    if height < 1 or width < 1:
        raise OperationError(
            f"`{name}` must be at least 1x1",
            found=f"{height}x{width}",
            expected="1 or more in both directions",
        )
    if name == "kernel" and height * width > MOST_POSITIONS:
        raise OperationError(
            "a kernel of unreasonable size", found=f"{height}x{width}", expected=f"at most {MOST_POSITIONS:,} positions"
        )
    return height, width


def fraction(args: Args, name: str) -> float:
    """A probability in [0, 1).

    Raises:
        OperationError: for any other.
    """
    value = number(args, name)
    if not 0 <= value < 1:
        raise OperationError(
            f"`{name}` must be a fraction", found=str(value), expected="from 0 up to, not including, 1"
        )
    return value


def complete(term: Term, argument: Argument) -> dict[str, Literal]:
    """Return the arguments of a word by name, as `argument` declares them, with defaults filled in.

    `weight(log)` and `weight(gain = log)` give the same. What a spec says was checked when it was bound.
    """
    declared = argument.takes(term.name)
    if not declared and not term.args and not term.options:
        return {}
    given = dict(zip((a.name for a in declared), term.args, strict=False)) | dict(term.options)
    defaults = {a.name: a.default for a in declared if not isinstance(a.default, Required)}
    values = defaults | given
    if values.keys() != {a.name for a in declared}:
        raise TypeError(f"{literal_text(term)} does not have the arguments of `{argument.name}`")
    return {a.name: _as_word(a, values[a.name]) for a in declared}


def _as_word(argument: Argument, value: Literal) -> Literal:
    """Inside the arguments of a word a bare word is a text."""
    return Term(value) if isinstance(value, str) and argument.type is ArgumentType.WORD else value


def literal_text(value: Literal) -> str:
    """A literal as a spec would write it, for messages."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case Term():
            parts = [literal_text(v) for v in value.args] + [f"{k} = {literal_text(v)}" for k, v in value.options]
            return f"{value.name}({', '.join(parts)})" if parts else value.name
        case tuple():
            return f"({', '.join(literal_text(v) for v in value)})"
        case _:
            return str(value)


def shape_text(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)


def element_count(shape: Shape) -> int:
    """Elements per image."""
    return shape[0] * shape[1] * shape[2]


def positions(shape: Shape) -> int:
    return shape[1] * shape[2]


def same_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
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
            found=f"{shape_text(a)} and {shape_text(b)}",
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
            f"{what} must have one shape", found=", ".join(shape_text(s) for s in inputs), expected="equal shapes"
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
