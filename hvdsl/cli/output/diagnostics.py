"""Print diagnostics where people and programs look for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hvdsl.grammar.diagnostics import Diagnostic, Severity
from hvdsl.render.diagnostics import render, summary, wants_colour


def report(diagnostics: Sequence[Diagnostic]) -> int:
    """Print diagnostics to standard error; return 1 if any is an error, else 0."""
    if diagnostics:
        print(render(diagnostics, colour=wants_colour(sys.stderr)), file=sys.stderr)
        print(summary(diagnostics), file=sys.stderr)
    return exit_code(diagnostics)


def exit_code(diagnostics: Sequence[Diagnostic]) -> int:
    return int(any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics))
