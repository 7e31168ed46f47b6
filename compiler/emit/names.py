"""Identifiers of emitted code: what may stand there, and who has which name."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

MODULE_LEVEL = frozenset({"F", "Model", "Tensor", "annotations", "math", "nn", "torch"})
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BUILTINS = frozenset(name for name in dir(builtins) if name.islower())


def identifier(name: str) -> str:
    """Return `name` if it can stand in Python source as it is.

    Raises:
        ValueError: if it is anything but an ASCII identifier, or a keyword. The grammar admits no other characters, so
        this is the last line of defence.
    """
    if keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be an identifier of emitted code")
    return word(name)


def word(name: str) -> str:
    """Return `name` if it can stand between quotation marks: a name of the spec, which may be a keyword of Python.

    Raises:
        ValueError: if it is anything but ASCII letters, digits and underscores.
    """
    if not _IDENTIFIER.match(name):
        raise ValueError(f"{name!r} cannot be a name in emitted code")
    return name


def camel(name: str) -> str:
    """`inverted_residual` becomes `InvertedResidual`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Recipe"


class Names:
    """Gives out names, each once, none of which hides another that the code needs."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | MODULE_LEVEL | _BUILTINS | {"self"}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, name: str) -> str:
        """Return `name`, with an underscore or a number behind it where it is taken or reserved."""
        if keyword.iskeyword(name) or name in MODULE_LEVEL or name in _BUILTINS:
            name += "_"
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}" if name[-1:].isdigit() else f"{name}{number}"
        self._taken.add(free)
        return identifier(free)

    def release(self, name: str) -> None:
        self._taken.discard(name)
