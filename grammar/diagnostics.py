"""One value for everything that can be wrong with an input, and the declaration of each code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from hvdsl.errors import HvdslError
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@record
class Code(Record):
    """A kind of diagnostic, declared once.

    `bad` is a whole spec that gives this code, `good` its correction; the tests run both.
    """

    id: str
    title: str
    explanation: str
    bad: str
    good: str
    severity: Severity = Severity.ERROR


@record
class Diagnostic(Record):
    """One mistake: what was found, what was expected, and a way out.

    Wording: lower case, no full stop, names in backticks.
    """

    code: Code
    message: str
    span: Span | None
    found: str = ""
    expected: str = ""
    help: str = ""
    count: int = 1  # times this failure occurred in expanded copies of the same source text

    @property
    def severity(self) -> Severity:
        return self.code.severity


class SpecError(HvdslError):
    """An input that cannot be used. Carries every diagnostic of the run, warnings included."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(d.message for d in self.diagnostics))


class Diagnostics:
    """Collects diagnostics, so that one run reports as many mistakes as possible."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []
        self._places: dict[object, int] = {}  # of code, place and message

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._found)

    def add(self, diagnostic: Diagnostic) -> None:
        """Record a diagnostic; a repetition (same code, span and message) only raises its count."""
        span = diagnostic.span
        place = None if span is None else (span.source.name, span.start, span.end)
        key = diagnostic.code.id, place, diagnostic.message
        at = self._places.setdefault(key, len(self._found))
        if at == len(self._found):
            self._found.append(diagnostic)
            return
        known = self._found[at]
        self._found[at] = Diagnostic(
            known.code,
            known.message,
            known.span,
            known.found,
            known.expected,
            known.help,
            known.count + 1,
        )

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Record what a block raises as `SpecError`; what stands behind the block goes on."""
        try:
            yield
        except SpecError as error:
            for diagnostic in error.diagnostics:
                self.add(diagnostic)

    @property
    def failed(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self._found)

    def stop_if_failed(self) -> None:
        """Raise `SpecError` with everything found so far if any of it is an error."""
        if self.failed:
            raise SpecError(self._found)


class Fault(SpecError):  # noqa: N818 - it carries an error, and is caught where work can go on
    """One mistake in a spec. Whoever can go on records it, so that one run reports many."""

    def __init__(
        self, code: Code, message: str, span: Span | None, found: str = "", expected: str = "", help: str = ""
    ) -> None:
        self.diagnostic = Diagnostic(code, message, span, found, expected, help)
        super().__init__([self.diagnostic])


class Exhausted(Fault):
    """A limit of the whole run is reached: nothing more is elaborated."""
