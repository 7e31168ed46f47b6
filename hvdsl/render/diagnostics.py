"""Diagnostics as text with source line and caret; for programs: JSON, lines, GitHub's annotations, SARIF 2.1.0."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from textwrap import dedent, indent
from typing import Any, TextIO
from urllib.parse import quote

from hvdsl.grammar.diagnostics import Code, Diagnostic, Severity
from hvdsl.grammar.source import Span

TAB = 4
LONGEST_LINE = 140  # cells of a source line that are shown
BEFORE_CARET = 50  # of them before the caret, where a line is longer

_COLOURS = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "frame": "\x1b[34m",
    "strong": "\x1b[1m",
    "help": "\x1b[36m",
}
_RESET = "\x1b[0m"


def render(diagnostics: Sequence[Diagnostic], *, colour: bool = False) -> str:
    """Return the diagnostics as a person reads them, in order of their place, each ending in a line break."""
    return "\n".join(_Picture(diagnostic, colour).text() for diagnostic in in_order(diagnostics))


def count_line(diagnostics: Iterable[Diagnostic]) -> str:
    """Return `2 errors, 1 warning`, or an empty text where there is nothing to count."""
    severities = [diagnostic.severity for diagnostic in diagnostics]
    counted = ((severities.count(severity), severity) for severity in (Severity.ERROR, Severity.WARNING))
    return ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for n, severity in counted if n)


def as_data(diagnostic: Diagnostic) -> dict[str, str | int | None]:
    """Return a diagnostic as JSON says it. Lines and columns count from 1; the end is one past the last character."""
    span = diagnostic.span
    end = span.source.position(span.end) if span else (None, None)
    return {
        "severity": str(diagnostic.severity),
        "code": diagnostic.code.id,
        "title": diagnostic.code.title,
        "message": diagnostic.message,
        "file": span.source.name if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "end_line": end[0],
        "end_column": end[1],
        "found": diagnostic.found,
        "expected": diagnostic.expected,
        "help": diagnostic.help,
        "count": diagnostic.count,
    }


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return diagnostics by file and place; those of no place come first."""
    return sorted(diagnostics, key=_place)


def _place(diagnostic: Diagnostic) -> tuple[str, int]:
    return (diagnostic.span.source.name, diagnostic.span.start) if diagnostic.span else ("", -1)


class _Picture:
    """One diagnostic, drawn."""

    def __init__(self, diagnostic: Diagnostic, colour: bool) -> None:
        self.diagnostic = diagnostic
        self.colour = colour
        span = diagnostic.span
        self.gutter = len(str(span.source.position(max(span.start, span.end - 1))[0])) if span else 1

    def text(self) -> str:
        d = self.diagnostic
        head = self._paint(f"{d.severity}[{d.code.id}]", str(d.severity))
        lines = [f"{head}: {self._paint(printable(d.message), 'strong')}"]
        if d.span is not None:
            where = f"{printable(d.span.source.name)}:{d.span.line}:{d.span.column}"
            lines.append(f"{' ' * self.gutter} {self._paint('┌─', 'frame')} {where}")
            lines += self._source(d.span)
        elif d.found:
            lines.append(self._note("found", d.found))
        if d.expected:
            lines.append(self._note("expected", d.expected))
        if d.help:
            lines.append(self._note("help", d.help))
        if d.count > 1:
            lines.append(self._note("note", f"this happens in {d.count} expanded copies of the line"))
        return "\n".join(lines) + "\n"

    def _source(self, span: Span) -> list[str]:
        last = span.source.position(max(span.start, span.end - 1))[0]
        if last == span.line:
            return self._one_line(span)
        return self._several_lines(span, last)

    def _one_line(self, span: Span) -> list[str]:
        text = span.source.line(span.line)
        shown, starts = expand_tabs(text)
        first = min(span.column - 1, len(text))
        final = min(max(first, first + span.end - span.start), len(text))
        shown, cell, length = _window(shown, starts[first], starts[final] - starts[first])
        caret = " " * cell + self._paint("^" * max(1, length), str(self.diagnostic.severity))
        return [self._line(span.line, shown), self._line(None, self._with_found(caret))]

    def _several_lines(self, span: Span, last: int) -> list[str]:
        first_text, _ = expand_tabs(span.source.line(span.line))
        last_line = span.source.line(last)
        last_text, starts = expand_tabs(last_line)
        column = span.source.position(span.end - 1)[1] - 1
        last_text, cell, _ = _window(last_text, starts[min(column, len(last_line))], 1)
        bar = self._paint("│", str(self.diagnostic.severity))
        lines = [self._line(span.line, f"{self._paint('╭', str(self.diagnostic.severity))} {_cut(first_text)}")]
        if last - span.line > 1:
            lines.append(f"{' ' * self.gutter} {self._paint('·', 'frame')} {bar}")
        lines.append(self._line(last, f"{bar} {last_text}"))
        tail = self._paint("╰" + "─" * (cell + 1) + "^", str(self.diagnostic.severity))
        lines.append(self._line(None, self._with_found(tail)))
        return lines

    def _with_found(self, caret: str) -> str:
        return f"{caret} {printable(self.diagnostic.found)}" if self.diagnostic.found else caret

    def _line(self, number: int | None, text: str) -> str:
        label = f"{number or '':>{self.gutter}}"
        return f"{self._paint(f'{label} │', 'frame')} {text}".rstrip()

    def _note(self, kind: str, text: str) -> str:
        return f"{' ' * self.gutter} {self._paint('=', 'frame')} {self._paint(kind, 'help')}: {printable(text)}"

    def _paint(self, text: str, role: str) -> str:
        return f"{_COLOURS[role]}{text}{_RESET}" if self.colour else text


def _window(shown: str, cell: int, length: int) -> tuple[str, int, int]:
    """Cut a long line to what surrounds the caret; return it with the caret's cell and length in it."""
    if cells_of(shown) <= LONGEST_LINE:
        return shown, cell, length
    cells = 0
    kept: list[str] = []
    begin = max(0, cell - BEFORE_CARET)
    for character in shown:
        if cells >= begin and cells < begin + LONGEST_LINE:
            kept.append(character)
        cells += cells_of(character)
    left = "…" if begin else ""
    right = "…" if cells > begin + LONGEST_LINE else ""
    return left + "".join(kept) + right, cell - begin + len(left), min(length, begin + LONGEST_LINE - cell)


def _cut(shown: str) -> str:
    return shown if cells_of(shown) <= LONGEST_LINE else shown[:LONGEST_LINE] + "…"


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: only a terminal, and never against NO_COLOR (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def cells_of(text: str) -> int:
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
        cell += cells_of(piece)
    starts.append(cell)
    return "".join(shown), starts


SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def concise(diagnostics: Sequence[Diagnostic]) -> str:
    """One line for each: `ladder.hv:4:9: error[HV0301]: there is no `con`: did you mean `conv`?`"""
    return "".join(printable(f"{_where(d)}{d.severity}[{d.code.id}]: {_sentence(d)}") + "\n" for d in diagnostics)


def github(diagnostics: Sequence[Diagnostic]) -> str:
    """Workflow commands that GitHub shows beside the lines of a change."""
    return "".join(_annotation(d) for d in diagnostics)


def sarif(diagnostics: Sequence[Diagnostic], version: str) -> dict[str, Any]:
    """Static Analysis Results Interchange Format 2.1.0: what code hosts and editors read."""
    codes = {d.code.id: d.code for d in diagnostics}
    driver = {"name": "hvdsl", "version": version, "rules": [_rule(code) for code in codes.values()]}
    results = [_result(d, list(codes).index(d.code.id)) for d in diagnostics]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF, "version": "2.1.0", "runs": [run]}


def _sentence(diagnostic: Diagnostic) -> str:
    return diagnostic.message + (f"; {diagnostic.help}" if diagnostic.help else "")


def _where(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    return "" if span is None else f"{span.source.name}:{span.line}:{span.column}: "


def _annotation(diagnostic: Diagnostic) -> str:
    properties = [f"title={_escaped(diagnostic.code.id, ':,')}"]
    if diagnostic.span is not None:
        end = diagnostic.span.source.position(diagnostic.span.end)
        properties += [f"file={_escaped(diagnostic.span.source.name, ':,')}", f"line={diagnostic.span.line}"]
        properties += [f"col={diagnostic.span.column}", f"endLine={end[0]}", f"endColumn={end[1]}"]
    return f"::{_level(diagnostic.severity)} {','.join(properties)}::{_escaped(_sentence(diagnostic), '')}\n"


def _escaped(text: str, more: str) -> str:
    """Escape what ends a workflow command or one of its properties."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _uri(path: PurePath) -> str:
    """A relative path stays relative: to where the command ran, which is what code hosts take for the root."""
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _rule(code: Code) -> dict[str, Any]:
    """What code hosts show of a diagnostic, with its examples: indented text is code in Markdown, too."""
    explanation = " ".join(code.explanation.split())
    parts = [explanation]
    for heading, example in (("This gives it:", code.bad), ("This is right:", code.good)):
        if example:
            parts += [heading, indent(dedent(example).strip("\n"), "    ")]
    story = "\n\n".join(parts)
    return {
        "id": code.id,
        "shortDescription": {"text": code.title},
        "fullDescription": {"text": explanation},
        "help": {"text": story, "markdown": story},
        "defaultConfiguration": {"level": _level(code.severity)},
    }


def _level(severity: Severity) -> str:
    return "error" if severity is Severity.ERROR else "warning"


def _result(diagnostic: Diagnostic, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": diagnostic.code.id,
        "ruleIndex": rule,
        "level": _level(diagnostic.severity),
        "message": {"text": _sentence(diagnostic)},
    }
    span = diagnostic.span
    if span is not None:
        line, column = span.source.position(span.end)
        region = {"startLine": span.line, "startColumn": span.column, "endLine": line, "endColumn": column}
        place = {"uri": _uri(PurePath(span.source.name))}
        result["locations"] = [{"physicalLocation": {"artifactLocation": place, "region": region}}]
    return result
