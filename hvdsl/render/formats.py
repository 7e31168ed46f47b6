"""Diagnostics for programs: a line each, annotations of GitHub's, SARIF 2.1.0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from hvdsl.grammar.diagnostics import Diagnostic, Severity

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def concise(diagnostics: Sequence[Diagnostic]) -> str:
    """One line for each: `ladder.hv:4:9: error[HV0301]: there is no `con`: did you mean `conv`?`"""
    return "".join(f"{_where(d)}{d.severity}[{d.code.id}]: {_sentence(d)}\n" for d in diagnostics)


def github(diagnostics: Sequence[Diagnostic]) -> str:
    """Workflow commands that GitHub shows beside the lines of a change."""
    return "".join(_annotation(d) for d in diagnostics)


def sarif(diagnostics: Sequence[Diagnostic], version: str) -> dict[str, Any]:
    """Static Analysis Results Interchange Format 2.1.0: what code hosts and editors read."""
    codes = {d.code.id: d.code for d in diagnostics}
    rules = [
        {"id": code.id, "shortDescription": {"text": code.title}, "fullDescription": {"text": code.explanation}}
        for code in codes.values()
    ]
    driver = {"name": "hvdsl", "version": version, "rules": rules}
    results = [_result(d, list(codes).index(d.code.id)) for d in diagnostics]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF, "version": "2.1.0", "runs": [run]}


def _sentence(diagnostic: Diagnostic) -> str:
    return diagnostic.message + (f"; {diagnostic.help}" if diagnostic.help else "")


def _where(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    return "" if span is None else f"{span.source.name}:{span.line}:{span.column}: "


def _annotation(diagnostic: Diagnostic) -> str:
    kind = "error" if diagnostic.severity is Severity.ERROR else "warning"
    properties = [f"title={_escaped(diagnostic.code.id, ':,')}"]
    if diagnostic.span is not None:
        end = diagnostic.span.source.position(diagnostic.span.end)
        properties += [f"file={_escaped(diagnostic.span.source.name, ':,')}", f"line={diagnostic.span.line}"]
        properties += [f"col={diagnostic.span.column}", f"endLine={end[0]}", f"endColumn={end[1]}"]
    return f"::{kind} {','.join(properties)}::{_escaped(_sentence(diagnostic), '')}\n"


def _escaped(text: str, more: str) -> str:
    """Escape what ends a workflow command or one of its properties."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _uri(path: PurePath) -> str:
    """A relative path stays relative: to where the command ran, which is what code hosts take for the root."""
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _result(diagnostic: Diagnostic, rule: int) -> dict[str, Any]:
    level = "error" if diagnostic.severity is Severity.ERROR else "warning"
    result: dict[str, Any] = {
        "ruleId": diagnostic.code.id,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": _sentence(diagnostic)},
    }
    span = diagnostic.span
    if span is not None:
        line, column = span.source.position(span.end)
        region = {"startLine": span.line, "startColumn": span.column, "endLine": line, "endColumn": column}
        place = {"uri": _uri(PurePath(span.source.name))}
        result["locations"] = [{"physicalLocation": {"artifactLocation": place, "region": region}}]
    return result
