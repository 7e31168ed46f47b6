"""Progress of work that a person waits for, with the time left, where there is a terminal to show it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

from hvdsl.runtime.ground.progress import ProgressLine


class Show(Protocol):
    """Takes how much is done, and of how much; a third argument says of what from now on."""

    def __call__(self, done: int, total: int, what: str = ..., /) -> None: ...


@contextmanager
def showing(what: str, console: Console | None, *, done: int = 0) -> Iterator[Show]:
    """Give a function that shows on `console` how far something is; without one, or a terminal, it shows nothing.

    What was `done` before does not count for the time left.
    """
    with ProgressLine(console, what, done=done) as line:
        yield lambda done, total, what=what, /: line.update(done, total, what=what)
