"""What a call of the library does around its work: it leaves the process as it was, and shows how far it is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from rich.console import Console

from hvdsl.runtime.ground.memory import out_of_memory
from hvdsl.runtime.ground.progress import ProgressLine

SMALLER = "take a smaller `batch`"


@contextmanager
def no_global_effect(threads: int | None = None, remedy: str | None = SMALLER) -> Iterator[None]:
    """Run a block in which torch computes with so many `threads`, and leave the process as it was before.

    The state of the global generators (CPU and accelerator), the number of threads, the default floating type and
    Python's warning filters are put back, whatever happens inside.

    Args:
        remedy: What to do about too little memory, as the end of a sentence; None leaves that error as it is.

    Raises:
        OutOfMemoryError: More memory was asked for inside than there is, by whatever.
    """
    before, dtype = torch.get_num_threads(), torch.get_default_dtype()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kind = "cpu" if accelerator is None else accelerator.type
    devices = range(0 if accelerator is None else torch.accelerator.device_count())
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind),
    ):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        except (MemoryError, RuntimeError) as error:
            failure = None if remedy is None else out_of_memory(error, remedy)
            if failure is None:
                raise
            raise failure from error
        finally:
            torch.set_num_threads(before)
            torch.set_default_dtype(dtype)


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


def say(console: Console | None, line: str) -> None:
    """Show one line where there is somebody to see it."""
    if console is not None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
