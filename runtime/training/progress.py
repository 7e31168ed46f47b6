"""What a person sees while a model trains: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.metric_names import METRICS
from hvdsl.runtime.ground.progress import is_live
from hvdsl.runtime.training.live import LiveView
from hvdsl.runtime.training.metrics import Measurement

REDRAWN = 2  # times a second: often enough to look alive, and no load beside training


class ProgressDisplay:
    """Shows steps and measurements on `console`; silent without one (library use, ranks other than 0).

    Args:
        title: What is trained.
        resolutions: Of each latent group, as the live view sums them up.
    """

    def __init__(
        self,
        console: Console | None,
        start: int,
        total: int | None,
        title: str = "",
        resolutions: Sequence[str] = (),
    ) -> None:
        self._console, self._total = console, total
        self._view = LiveView(title, start, total, resolutions) if is_live(console) else None
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        if self._view is not None:
            streams = (sys.stdout, sys.stderr)
            live = Live(self._view, console=self._console, refresh_per_second=REDRAWN, vertical_overflow="crop")
            self._entered.enter_context(live)  # which also catches what is printed, and warnings
            self._entered.enter_context(_handlers_follow(streams))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        if self._view is not None:
            self._view.advance(step)

    def show(self, step: int, values: Mapping[str, Measurement], event: str = "train") -> None:
        """Measurements after `step` steps; those of training are redrawn in place, everything else stays as a line."""
        if self._view is not None:
            self._view.record(event, step, values)
            if event == "train":
                return
        total = "" if self._total is None else f"/{self._total}"
        label = "" if event == "train" else f"{event}: "
        line = f"step {step}{total}  {label}{format_values(values)}"
        if self._console is not None and self._view is not None:
            self._console.print(line, highlight=False, markup=False)  # broken between words
        else:
            self.say(line)

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._console is not None:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def format_values(values: Mapping[str, object]) -> str:
    """`bits/dim 3.912  nats/dim 2.7116  …`, in the vocabulary's order; skipped steps only where there are some."""
    parts = []
    for name, metric in METRICS.items():
        value = values.get(name)
        numbers = value if isinstance(value, list) else [value]
        shown = metric.label is not None and all(isinstance(n, int | float) for n in numbers)
        if shown and (value or name != names.SKIPPED_STEPS):
            parts.append(f"{metric.label} {', '.join(f'{n:{metric.form}}' for n in numbers)}")
    return "  ".join(parts)


@contextmanager
def _handlers_follow(before: tuple[TextIO, TextIO]) -> Iterator[None]:
    """Let handlers of logging that hold the terminal write to what has taken the place of its streams meanwhile."""
    streams = {id(old): new for old, new in zip(before, (sys.stdout, sys.stderr), strict=True)}
    loggers = [logging.root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    handlers = {id(h): h for logger in loggers for h in logger.handlers if isinstance(h, logging.StreamHandler)}
    moved = [(h, h.setStream(streams[id(h.stream)])) for h in handlers.values() if id(h.stream) in streams]
    try:
        yield
    finally:
        for handler, stream in moved:
            handler.setStream(stream)
