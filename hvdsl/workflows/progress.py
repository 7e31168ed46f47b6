"""Progress of work that a person waits for, with the time left, where there is a terminal to show it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Show(Protocol):
    """Takes how much is done, and of how much; a third argument says of what from now on."""

    def __call__(self, done: int, total: int, what: str = ..., /) -> None: ...


@contextmanager
def showing(what: str, console: Console | None) -> Iterator[Show]:
    """Give a function that shows on `console` how far something is; without one, or a terminal, it shows nothing."""
    if console is None or not console.is_terminal:
        yield lambda done, total, what=what, /: None
        return
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(bar_width=20), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def show(done: int, total: int, what: str = what, /) -> None:
            if done < progress.tasks[0].completed:
                progress.reset(task)  # the pace of what was done before says nothing of this
            progress.update(task, completed=done, total=total, description=what)

        yield show
