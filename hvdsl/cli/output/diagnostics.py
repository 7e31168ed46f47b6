"""Print diagnostics where people and programs look for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hvdsl.cli.output.json import print_json
from hvdsl.grammar.diagnostics import Diagnostic, Severity
from hvdsl.render.diagnostics import as_data, render, summary, wants_colour


def report(diagnostics: Sequence[Diagnostic]) -> int:
    """Print diagnostics to standard error; return 1 if any is an error, else 0."""
    if diagnostics:
        print(render(diagnostics, colour=wants_colour(sys.stderr)), file=sys.stderr)
        print(summary(diagnostics), file=sys.stderr)
    return exit_code(diagnostics)


def report_json(diagnostics: Sequence[Diagnostic], **more: object) -> int:
    """Print one JSON object to standard output; return 1 if any diagnostic is an error, else 0."""
    code = exit_code(diagnostics)
    print_json({"ok": code == 0} | more | {"diagnostics": [as_data(d) for d in diagnostics]})
    return code


def exit_code(diagnostics: Sequence[Diagnostic]) -> int:
    return int(any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics))
