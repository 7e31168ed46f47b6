"""Typed reading of arguments that the compiler has checked: a wrong type here is a bug, a `TypeError`."""

from __future__ import annotations

from hvdsl.compiler.catalogue.table import Args, Argument, ArgumentType, OperationError, Required
from hvdsl.compiler.graph import Literal, Term


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


def positive(args: Args, name: str) -> int:
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
        raise TypeError(f"{text(term)} does not have the arguments of `{argument.name}`")
    return {a.name: _as_word(a, values[a.name]) for a in declared}


def _as_word(argument: Argument, value: Literal) -> Literal:
    """Inside the arguments of a word a bare word is a text."""
    return Term(value) if isinstance(value, str) and argument.type is ArgumentType.WORD else value


def text(value: Literal) -> str:
    """A literal as a spec would write it, for messages."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case Term():
            parts = [text(v) for v in value.args] + [f"{k} = {text(v)}" for k, v in value.options]
            return f"{value.name}({', '.join(parts)})" if parts else value.name
        case tuple():
            return f"({', '.join(text(v) for v in value)})"
        case _:
            return str(value)
