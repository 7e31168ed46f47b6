"""What a person sees while a model trains: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.metric_names import METRICS
from hvdsl.runtime.ground.progress import ProgressLine

# On the live line of a narrow terminal.
ALWAYS_ROOM_FOR = (names.BITS_PER_DIM, names.ERROR_PER_DIM, names.SKIPPED_STEPS, names.IMAGES_PER_SECOND)


class ProgressDisplay:
    """Shows steps and measurements on `console`; silent without one (library use, ranks other than 0)."""

    def __init__(self, console: Console | None, start: int, total: int | None) -> None:
        self._console, self._total = console, total
        self._line = ProgressLine(console, total=total, done=start)

    def __enter__(self) -> Self:
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        self._line.update(step)

    def show(self, step: int, values: Mapping[str, object], event: str = "train") -> None:
        """Measurements after `step` steps; training goes to the live line, everything else stays on the screen."""
        if self._line.shown and event == "train":
            short = {name: values[name] for name in ALWAYS_ROOM_FOR if name in values}
            self._line.update(step, beside=format_values(short))
            return
        total = "" if self._total is None else f"/{self._total}"
        label = "" if event == "train" else f"{event}: "
        self.say(f"step {step}{total}  {label}{format_values(values)}")

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
