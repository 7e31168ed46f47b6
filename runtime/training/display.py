"""What a person sees while a model trains: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.metric_names import METRICS, metric
from hvdsl.runtime.ground.progress import is_live
from hvdsl.runtime.training.folder.logs import Measurement
from hvdsl.runtime.training.folder.saving import BEST

WIDEST = 110  # columns that are used of a wide terminal
CELL = 28  # columns of a name and its number
BARS = ("▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█")
IN_LINES = frozenset({names.GRADIENT_NORM, names.GRADIENT_NORM_LIMIT, names.RATE_PER_GROUP_NATS_PER_IMAGE})
"""Measurements that have a line of their own."""


class LiveView:
    """The last measurements of a run, as rich draws them.

    Args:
        title: What is trained.
        start: Steps done before.
        total: Of the whole run; None where nobody knows.
        resolutions: Of each latent group, in order of generation: `16x16`.
    """

    def __init__(self, title: str, start: int, total: int | None, resolutions: Sequence[str]) -> None:
        self._title, self._total, self._resolutions = title, total, resolutions
        self._step = self._start = start
        self._began = time.monotonic()
        self._values: Mapping[str, Measurement] = {}
        self._measured_at: int | None = None
        self._validations: list[tuple[float, int, str]] = []  # the best and the last: value, step, what it is

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        self._step = step

    def record(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        """Measurements after `step` steps."""
        if event == "train":
            self._values, self._measured_at = dict(values), step
        elif event == "validation":
            name = next((n for n in BEST if isinstance(values.get(n), int | float)), None)
            value = values.get(name) if name is not None else None
            if name is not None and isinstance(value, int | float) and math.isfinite(value):
                last = (float(value), step, METRICS[name].heading)
                self._validations = [min([*self._validations, last]), last]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        lines = list(self._lines(width, options.ascii_only))
        room = max(2, console.height - 1)
        if len(lines) > room:
            hidden = len(lines) - room + 1
            lines = [*lines[: room - 1], Text(f"… {hidden} lines more: make the window higher", style="dim")]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
            line.no_wrap = True
            yield line

    def _lines(self, width: int, ascii_only: bool) -> Iterator[Text]:
        yield self._heading()
        yield self._bar(width, ascii_only)
        yield from self._cells(width)
        yield from self._gradient()
        yield from self._rates(width, ascii_only)
        yield from self._lists(width, ascii_only)
        yield from self._validation()

    def _heading(self) -> Text:
        of = "" if self._total is None else f" of {self._total:,}"
        return Text.assemble((self._title, "bold"), f"  step {self._step:,}{of}")

    def _bar(self, width: int, ascii_only: bool) -> Text:
        pace = (self._step - self._start) / max(time.monotonic() - self._began, 1e-9)
        if self._total is None:
            return Text(f"{pace:.3g} steps/s", style="dim")
        share = min(1.0, self._step / max(1, self._total))
        left = _duration((self._total - self._step) / pace) if pace > 0 else "-:--:--"
        after = f" {share:4.0%} {left} left"
        room = max(4, width - len(after))
        done, rest = ("#", "-") if ascii_only else ("━", "─")
        full = round(share * room)
        return Text.assemble((done * full, "green"), (rest * (room - full), "dim"), after)

    def _cells(self, width: int) -> Iterator[Text]:
        """Every number that is measured, in as many columns as fit."""
        cells = []
        for name, value in _in_order(self._values):
            if name not in IN_LINES and not isinstance(value, list):
                known = metric(name)
                heading = name.replace("_", " ") if known is None else known.heading
                cells.append((heading, _number(name, value)))
        columns = max(1, (width + 2) // (CELL + 2))
        for at in range(0, len(cells), columns):
            line = Text()
            for n, (heading, number) in enumerate(cells[at : at + columns]):
                space = max(1, CELL - len(number) - 1)
                line.append("  " if n else "")
                line.append(f"{heading[:space]:<{space}} ", style="dim")
                line.append(number, style="red" if heading == "skipped" and number != "0" else "")
            yield line

    def _gradient(self) -> Iterator[Text]:
        norm, limit = self._values.get(names.GRADIENT_NORM), self._values.get(names.GRADIENT_NORM_LIMIT)
        if isinstance(norm, int | float):
            over = isinstance(limit, int | float) and norm >= limit
            line = Text.assemble(("gradient norm ", "dim"), (f"{norm:.4g}", "red" if over else ""))
            if isinstance(limit, int | float):
                line.append(f"; updates from {limit:.4g} on are skipped", style="dim")
            yield line

    def _rates(self, width: int, ascii_only: bool) -> Iterator[Text]:
        """The rate of all groups of a resolution as a bar."""
        rates = self._values.get(names.RATE_PER_GROUP_NATS_PER_IMAGE)
        if not isinstance(rates, list) or len(rates) != len(self._resolutions):
            return
        sums: dict[str, list[float]] = {}
        for resolution, rate in zip(self._resolutions, rates, strict=True):
            sums.setdefault(resolution, []).append(rate if isinstance(rate, int | float) else math.nan)
        largest = max((abs(sum(r)) for r in sums.values() if math.isfinite(sum(r))), default=0.0) or 1.0
        yield Text("rate by resolution, nats/image", style="dim")
        head = max(len(resolution) for resolution in sums)
        for resolution, group in sums.items():
            after = f" {sum(group):.4g} in {len(group)} group{'' if len(group) == 1 else 's'}"
            room = max(4, width - head - 23)
            bar = bar_of(sum(group) / largest, room, ascii_only)
            yield Text.assemble((f"{resolution:>{head}} ", ""), (f"{bar:<{room}}", "blue"), after)

    def _lists(self, width: int, ascii_only: bool) -> Iterator[Text]:
        """Other numbers of each group, and its rate: a column for each group, with the least and the most."""
        for name, value in _in_order(self._values):
            if not isinstance(value, list) or not value:
                continue
            known = metric(name)
            heading = name.replace("_", " ") if known is None else known.heading
            numbers = [v if isinstance(v, int | float) else math.nan for v in value]
            finite = [v for v in numbers if math.isfinite(v)]
            ends = f" {min(finite):.3g} … {max(finite):.3g}" if finite else " not finite"
            profile = "" if ascii_only else sparkline(numbers, max(4, width - 38))
            yield Text.assemble((f"{heading[:17]:<17} ", "dim"), (profile, "blue"), ends)

    def _validation(self) -> Iterator[Text]:
        if self._validations:
            (best, best_step, _), (value, step, what) = self._validations[0], self._validations[-1]
            also = "" if best_step == step else f", best {best:.4f} at {best_step:,}"
            yield Text.assemble(("validation ", "dim"), f"{what} {value:.4f} at step {step:,}{also}")


def bar_of(share: float, room: int, ascii_only: bool = False) -> str:
    """A bar that takes `share` of `room` columns, in eighths."""
    if not math.isfinite(share):
        return "not finite"
    eighths = round(max(0.0, min(1.0, share)) * room * 8)
    if ascii_only:
        return "#" * (eighths // 8)
    return "█" * (eighths // 8) + (BARS[0][eighths % 8 - 1] if eighths % 8 else "")


def sparkline(numbers: Sequence[float], room: int) -> str:
    """A column for each number, from 0 to the largest; of more numbers than `room` the largest of neighbours."""
    size = max(1, math.ceil(len(numbers) / room))
    parts = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    heights = [max((v for v in part if math.isfinite(v)), default=math.nan) for part in parts]
    largest = max((h for h in heights if math.isfinite(h)), default=0.0)
    if largest <= 0:
        return "".join("×" if math.isnan(h) else BARS[1][0] for h in heights)
    return "".join("×" if math.isnan(h) else BARS[1][max(0, min(7, int(h / largest * 7.999)))] for h in heights)


def _in_order(values: Mapping[str, Measurement]) -> list[tuple[str, Measurement]]:
    """Measurements in the vocabulary's order; what it does not know comes last."""
    order = {name: i for i, name in enumerate(METRICS)}

    def place(name: str) -> int:
        known = metric(name)
        return len(order) if known is None else order[known.name]

    return sorted(values.items(), key=lambda item: place(item[0]))


def _number(name: str, value: Measurement) -> str:
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)[:12]
    if name == names.PEAK_MEMORY_BYTES:
        return f"{value / 2**30:.2f} GiB"
    known = METRICS.get(name)
    if known is not None and known.label is not None and abs(value) < 1e6:
        return f"{value:{known.form}}"
    return f"{value:,}" if isinstance(value, int) and abs(value) < 1e12 else f"{float(value):.4g}"


def _duration(seconds: float) -> str:
    whole = round(min(seconds, 1e9))
    days, rest = divmod(whole, 86_400)
    return f"{f'{days} d ' if days else ''}{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"


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
    for name, entry in METRICS.items():
        value = values.get(name)
        numbers = value if isinstance(value, list) else [value]
        shown = entry.label is not None and all(isinstance(n, int | float) for n in numbers)
        if shown and (value or name != names.SKIPPED_STEPS):
            parts.append(f"{entry.label} {', '.join(f'{n:{entry.form}}' for n in numbers)}")
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
