"""What commands print: JSON for programs, diagnostics for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvdsl.grammar.diagnostics import Diagnostic

FORMAT = 1
"""Raised when a key of the JSON changes its meaning or goes; new keys may come without."""


def print_json(values: Mapping[str, object]) -> None:
    """Print values to standard output as one JSON object, after the number of its form."""
    print(json.dumps({"format": FORMAT, **values}, indent=2))


def print_diagnostics(diagnostics: Sequence[Diagnostic]) -> int:
    """Print diagnostics to standard error; return 1 if any is an error, else 0."""
    from hvdsl.render.diagnostics import count_line, render, wants_colour

    if diagnostics:
        print(render(diagnostics, colour=wants_colour(sys.stderr)), file=sys.stderr)
        print(count_line(diagnostics), file=sys.stderr)
    return exit_code(diagnostics)


def exit_code(diagnostics: Sequence[Diagnostic]) -> int:
    """Return 1 if any diagnostic is an error, else 0."""
    from hvdsl.grammar.diagnostics import Severity

    return int(any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics))
