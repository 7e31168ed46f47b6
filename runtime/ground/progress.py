"""How far something is, on a terminal: one line that comes and goes, with the time that is left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def is_live(console: Console | None) -> bool:
    """Whether what is shown on it can change: it is a terminal that can move its cursor."""
    return console is not None and console.is_terminal and not console.is_dumb_terminal


class ProgressLine:
    """A line on `console` while entered; nothing without one, or where it is no terminal.

    Args:
        what: What is done, before the numbers.
        total: How much there is to do; None where nobody knows.
        done: How much of it was done before.
    """

    def __init__(self, console: Console | None, what: str = "", *, total: int | None = None, done: int = 0) -> None:
        self._progress = Progress(
            *([TextColumn("{task.description}")] if what else []),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[beside]}"),
            console=console,
            transient=True,
            disable=not is_live(console),
        )
        self._task = self._progress.add_task(what, total=total, completed=done, beside="")

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return not self._progress.disable

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(
        self, done: int, total: int | None = None, *, what: str | None = None, beside: str | None = None
    ) -> None:
        """So much is done, and of so much; what else is given changes too, `beside` being the text after the bar."""
        if done < self._progress.tasks[0].completed:
            self._progress.reset(self._task)  # the pace of what was done before says nothing of this
        self._progress.update(self._task, completed=done)
        if total is not None:
            self._progress.update(self._task, total=total)
        if what is not None:
            self._progress.update(self._task, description=what)
        if beside is not None:
            self._progress.update(self._task, beside=beside)
