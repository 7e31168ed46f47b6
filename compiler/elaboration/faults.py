"""The one exception that carries a diagnostic from where a mistake is found to where work can go on."""

from __future__ import annotations

from hvdsl.grammar.diagnostics import Code, Diagnostic
from hvdsl.grammar.source import Span


class Fault(Exception):  # noqa: N818 - it is control flow, never an error that leaves the compiler
    """A mistake in the spec, found while evaluating. Caught per statement, so that one run reports many."""

    def __init__(
        self, code: Code, message: str, span: Span | None, found: str = "", expected: str = "", help: str = ""
    ) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code, message, span, found, expected, help)


class Exhausted(Fault):
    """A limit of the whole run is reached: nothing more is elaborated."""
