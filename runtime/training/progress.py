"""What a person sees while a model trains: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# How a measurement is shown: its label and format. What is not here stays in the log.
SHOWN = {
    "bits_per_dim": ("bits/dim", ".3f"),
    "negative_elbo_nats_per_dim": ("nats/dim", ".4f"),
    "negative_importance_bound_nats_per_dim": ("nats/dim", ".4f"),
    "distortion_nats_per_dim": ("distortion", ".4f"),
    "rate_nats_per_dim": ("rate", ".4f"),
    "nats_per_code": ("nats/code", ".4f"),
    "error_per_dim": ("error", ".5f"),
    "rate_bits_per_dim": ("rate bits/dim", ".4f"),
    "code_perplexity_per_group_codes": ("perplexity", ".0f"),
    "gradient_norm": ("grad", ".3g"),
    "learning_rate": ("lr", ".2g"),
    "skipped_steps": ("skipped", ".0f"),
    "images_per_second": ("img/s", ".0f"),
}
# On the live line of a narrow terminal.
ALWAYS_ROOM_FOR = ("bits_per_dim", "error_per_dim", "skipped_steps", "images_per_second")


class ProgressDisplay:
    """Shows steps and measurements on `console`; silent without one (library use, ranks other than 0)."""

    def __init__(self, console: Console | None, start: int, total: int | None) -> None:
        self._console = console
        self._total = total
        self._live: Progress | None = None
        self._task = TaskID(0)
        if console is not None and console.is_terminal:
            self._live = Progress(
                MofNCompleteColumn(),
                BarColumn(bar_width=20),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"),
                console=console,
                transient=True,
            )
            self._task = self._live.add_task("", total=total, completed=start, values="")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        if self._live is not None:
            self._live.update(self._task, completed=step)

    def show(self, step: int, values: Mapping[str, object], event: str = "train") -> None:
        """Measurements after `step` steps; training goes to the live line, everything else stays on the screen."""
        if self._live is not None and event == "train":
            short = {name: values[name] for name in ALWAYS_ROOM_FOR if name in values}
            self._live.update(self._task, completed=step, values=format_values(short))
            return
        total = "" if self._total is None else f"/{self._total}"
        label = "" if event == "train" else f"{event}: "
        self.say(f"step {step}{total}  {label}{format_values(values)}")

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._console is not None:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def format_values(values: Mapping[str, object]) -> str:
    """`bits/dim 3.912  nats/dim 2.7116  …`, in a fixed order; skipped steps only where there are some."""
    parts = []
    for name, (label, form) in SHOWN.items():
        value = values.get(name)
        numbers = value if isinstance(value, list) else [value]
        if all(isinstance(n, int | float) for n in numbers) and (value or name != "skipped_steps"):
            parts.append(f"{label} {', '.join(f'{n:{form}}' for n in numbers)}")
    return "  ".join(parts)
