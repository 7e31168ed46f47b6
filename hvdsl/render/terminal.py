"""Tables and lines for people, as wide as the terminal: nothing is broken within a word.

Where the output is no terminal, lines are left whole, and tables are as wide as they need to be.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

BETWEEN, EDGES = 3, 2  # characters that a table has between two columns, and at its ends
LABEL = 24  # characters that a label before a value takes
NARROW = 2 * LABEL + 10  # columns of a terminal that is too narrow for values beside their labels


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table: its heading, and whether it holds words, which may go on in the next line, or numbers."""

    heading: str
    words: bool = False


class Terminal(Console):
    """Where people read; `width` is that of the terminal, and without limit where there is none."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(file=stream, highlight=False, emoji=False, width=None if stream.isatty() else 10_000)

    def on_broken_pipe(self) -> None:
        """Leave a closed pipe (`hvdsl info SPEC | head`) to the command line; rich would exit with 1."""
        raise BrokenPipeError

    def lines(self, lines: Iterable[str], style: str = "") -> None:
        """Print lines; what is too long goes on below, two characters further in than its line."""
        for line in lines:
            indent = " " * (len(line) - len(line.lstrip()) + 2)
            self._plain(_wrapped(line, self.width, indent), style)

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Print values after their labels; what is too long goes on below the value, in narrow terminals below all."""
        for label, value in pairs:
            start = f"{label:<{LABEL}}"
            indent = " " * LABEL if self.width >= NARROW else "  "
            self._plain(_wrapped(start + value, self.width, indent))

    def table(self, columns: Sequence[TableColumn], rows: Sequence[Sequence[str | Text]]) -> None:
        """Print rows below the columns' headings; where these do not fit beside each other, each row as a list."""
        widths = _widths(columns, rows, self.width)
        if widths is None:
            for row in rows:
                self._record(columns, row)
            self._plain([""])
            return
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column.heading, justify="left" if column.words else "right", width=width)
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
        self.print(table)

    def _record(self, columns: Sequence[TableColumn], row: Sequence[str | Text]) -> None:
        """One row: its first cell, and below it the others with their headings."""
        first, *others = row
        self._plain(["", _plain(first)])
        headings = [column.heading.replace("\n", " ") for column in columns[1:]]
        start = max(map(len, headings)) + 4
        for heading, cell in zip(headings, others, strict=True):
            if text := _plain(cell):
                self._plain(_wrapped(f"  {heading:<{start - 2}}{text}", self.width, " " * start))

    def _plain(self, lines: Iterable[str], style: str = "") -> None:
        for line in lines:
            self.print(line, style=style, markup=False, soft_wrap=True)


def _plain(cell: str | Text) -> str:
    return cell.plain if isinstance(cell, Text) else cell


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    """A line in as many as it needs, all but the first behind `indent`; a word that is too long stays whole."""
    if len(line) <= width:
        return [line]
    whole = textwrap.TextWrapper(
        max(width, len(indent) + 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    joined = re.sub(r"(?<=\d) (?=\w)", "\N{NO-BREAK SPACE}", line)  # a number and what it counts
    return [part.replace("\N{NO-BREAK SPACE}", " ") for part in whole.wrap(joined)]


def _widths(columns: Sequence[TableColumn], rows: Sequence[Sequence[str | Text]], room: int) -> list[int] | None:
    """How wide each column is: as wide as it needs, or columns of words as narrow as their longest; None: too wide."""
    room -= BETWEEN * (len(columns) - 1) + EDGES
    whole, least = [], []
    for place, column in enumerate(columns):
        cells = [_plain(row[place]) for row in rows]
        lines = [line for text in (column.heading, *cells) for line in text.split("\n")]
        words = [word for text in (column.heading, *(cells if column.words else [])) for word in text.split()]
        whole.append(max(map(len, lines)))
        least.append(max(len(part) for part in (words if column.words else [*words, *cells])))
    spare = room - sum(least)
    if spare < 0:
        return None
    for place, width in enumerate(whole):
        more = min(spare, width - least[place])
        least[place] += more
        spare -= more
    return least
