"""What a terminal shows: the width of characters, and whether to colour."""

from __future__ import annotations

import os
import unicodedata
from typing import TextIO

TAB = 4


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: only a terminal, and never against NO_COLOR (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def width(text: str) -> int:
    """Return the number of terminal cells that `text` takes; tabs must be gone."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def printable(text: str) -> str:
    """Replace control characters by their pictures, so that no input can steer the terminal."""
    if text.isprintable():
        return text
    return "".join(_picture(character) for character in text)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    # Other controls, and the marks that reorder text ("Trojan source").
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character


def expand_tabs(text: str) -> tuple[str, list[int]]:
    """Return `text` as it is shown, and the cell in which each of its characters starts (and one past the end)."""
    shown: list[str] = []
    starts: list[int] = []
    cell = 0
    for character in text:
        starts.append(cell)
        piece = " " * (TAB - cell % TAB) if character == "\t" else printable(character)
        shown.append(piece)
        cell += width(piece)
    starts.append(cell)
    return "".join(shown), starts
