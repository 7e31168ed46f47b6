"""The exception that carries a diagnostic from where a mistake is seen to where work can go on."""

from __future__ import annotations

from hvdsl.grammar.diagnostics import Code, Diagnostic, SpecError
from hvdsl.grammar.source import Span


class Fault(SpecError):  # noqa: N818 - it carries an error, and is caught where work can go on
    """One mistake in a spec. Whoever can go on records it, so that one run reports many."""

    def __init__(
        self, code: Code, message: str, span: Span | None, found: str = "", expected: str = "", help: str = ""
    ) -> None:
        self.diagnostic = Diagnostic(code, message, span, found, expected, help)
        super().__init__([self.diagnostic])


class Exhausted(Fault):
    """A limit of the whole run is reached: nothing more is elaborated."""
