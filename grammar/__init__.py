"""Text and YAML readers, one syntax tree, the printer. What it exports is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvdsl.grammar.files import format_text, read
    from hvdsl.grammar.printer import print_expression, print_text
    from hvdsl.grammar.text.reader import read_expression, read_text
    from hvdsl.grammar.yaml.printer import canonical, print_yaml
    from hvdsl.grammar.yaml.reader import read_yaml

__all__ = [
    "canonical",
    "format_text",
    "print_expression",
    "print_text",
    "print_yaml",
    "read",
    "read_expression",
    "read_text",
    "read_yaml",
]

_HOMES = {
    "canonical": "yaml.printer",
    "format_text": "files",
    "print_expression": "printer",
    "print_text": "printer",
    "print_yaml": "yaml.printer",
    "read": "files",
    "read_expression": "text.reader",
    "read_text": "text.reader",
    "read_yaml": "yaml.reader",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
