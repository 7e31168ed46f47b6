"""Progress of work that a person waits for, with the time left, on a terminal's standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def showing(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes how much is done, and of how much; without a terminal it shows nothing."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(bar_width=20), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
