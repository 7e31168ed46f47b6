"""Text and YAML readers, one syntax tree, the printer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvdsl.grammar.text import read_expression, read_text

__all__ = ["read_expression", "read_text"]

_HOMES = {"read_expression": "text", "read_text": "text"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
