"""Measurements since the last record: what a line of `metrics.jsonl` and the display are made of, with warnings."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.quantizers.usage import Usage
from hvdsl.runtime.training.folder.checkpoint import MANIFEST, Checkpoint, CheckpointError
from hvdsl.runtime.training.folder.logs import Measurement, plain
from hvdsl.runtime.training.step.optimization import StepResult

WINDOW = "window"
"""The entry of a checkpoint's state that holds what was collected since the last record."""


class Window:
    """Collects steps and sums them up.

    Terms are means over the steps whose value is finite, so that one skipped NaN does not blot out the rest; the
    gradient norm is the largest finite one, since that is what clipping and skipping thresholds are set by. What a
    checkpoint finds half collected is part of it: a resumed run's first record is that of an unbroken one.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._steps = self._skipped = self._images = 0
        self._seconds = 0.0
        self._norm, self._rate = math.nan, 0.0
        self._sums: dict[str, list[_Sum]] = {}

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Window:
        """What a checkpoint found half collected; nothing in one of version 0.1.

        Raises:
            CheckpointError: What it holds is none.
        """
        window = cls()
        try:
            if WINDOW in checkpoint.state:
                window.load_state_dict(checkpoint.state[WINDOW])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"`{WINDOW}` in {checkpoint.path / MANIFEST} is not what was measured since a record: {error!r}"
            ) from error
        return window

    def add(self, result: StepResult, images: int, seconds: float) -> None:
        """One step that took `images` images and `seconds`, reading them included."""
        self._steps += 1
        self._skipped += not result.applied
        self._images += images
        self._seconds += seconds
        self._rate = result.learning_rate
        if math.isfinite(result.gradient_norm):
            self._norm = max(result.gradient_norm, -math.inf if math.isnan(self._norm) else self._norm)
        for name, values in {names.OBJECTIVE: [result.loss], **result.terms}.items():
            sums = self._sums.setdefault(name, [_Sum() for _ in values])
            for total, value in zip(sums, values, strict=True):
                total.add(value)

    def __len__(self) -> int:
        return self._steps

    def summary(self) -> dict[str, Measurement]:
        """Measurements by name, units in the names; starts the next window."""
        values: dict[str, Measurement] = {}
        for name, sums in self._sums.items():
            means = [total.mean for total in sums]
            values[name] = means if names.is_per_group(name) else means[0]
        values |= {
            names.GRADIENT_NORM: self._norm,
            names.LEARNING_RATE: self._rate,
            names.SKIPPED_STEPS_IN_WINDOW: self._skipped,
            names.IMAGES_PER_SECOND: self._images / max(self._seconds, 1e-9),
            names.SECONDS_PER_STEP: self._seconds / self._steps,
        }
        self._begin()
        return values

    def state_dict(self) -> dict[str, Any]:
        """What is half collected, as JSON."""
        return {
            "steps": self._steps,
            "skipped": self._skipped,
            "images": self._images,
            "seconds": self._seconds,
            "gradient_norm": plain(self._norm),
            "learning_rate": self._rate,
            "sums": {name: [[total.sum, total.count] for total in sums] for name, sums in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Raises KeyError, TypeError or ValueError where it is not one."""
        norm, sums = state["gradient_norm"], state["sums"]
        self._steps, self._skipped, self._images = (int(state[key]) for key in ("steps", "skipped", "images"))
        self._seconds, self._rate = float(state["seconds"]), float(state["learning_rate"])
        self._norm = math.nan if norm is None else float(norm)
        self._sums = {str(n): [_Sum(float(total), int(count)) for total, count in s] for n, s in dict(sums).items()}


@dataclass(slots=True)
class _Sum:
    """The finite ones among some numbers."""

    sum: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.sum += value
            self.count += 1

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else math.nan


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that tensors took on an accelerator, or this process on a CPU; None where no system tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # elsewhere in KiB


SILENT_NATS = 0.01
"""A continuous group whose rate is below so many nats per image tells nothing of it."""
SILENT_WINDOWS, CODE_WINDOWS = 10, 2
"""Records in a row after which that is told; of codes fewer, since too few of them in use is plain sooner."""
SILENT_STEPS = 1000
"""Steps that those records must cover at least, or half of the whole run: a record may be of one step."""


class Collapse:
    """Remembers for how many records in a row each group was silent, or its codes too few.

    Args:
        total: Steps of the whole run; None where it has no end.
        start: Steps done before.
    """

    def __init__(self, total: int | None = None, start: int = 0) -> None:
        self._least = SILENT_STEPS if total is None else min(SILENT_STEPS, total / 2)
        self._since: dict[str, int] = {}  # the record before a group became silent, by its step
        self._reported: set[str] = set()
        self._last = start
        self._windows: dict[
            tuple[str, str], int
        ] = {}  # by "codes" or "rate", which may hold of one group, and its name

    def codes(self, levels: Sequence[Usage]) -> list[str]:
        """What to say of levels of codes."""
        return [
            level.warning
            for level in levels
            if self._turn("codes", level.level, level.warning is not None) == CODE_WINDOWS and level.warning is not None
        ]

    def rates(self, groups: Sequence[str], rates: Sequence[float | None], step: int) -> list[str]:
        """What to say of continuous groups, once of each while it stays silent.

        Args:
            groups: Their names, in order of generation.
            rates: Nats per image of each, means since the record before.
            step: Of this record.
        """
        silent = []
        for name, rate in zip(groups, rates, strict=True):
            turns = self._turn("rate", name, rate is not None and rate < SILENT_NATS)
            if turns <= 1:
                self._since[name] = self._last
                self._reported.discard(name)
            if turns >= SILENT_WINDOWS and step - self._since[name] >= self._least and name not in self._reported:
                silent.append(name)
                self._reported.add(name)
        self._last = step
        if not silent:
            return []
        oldest = max(self._since[name] for name in silent)
        names = f"group {silent[0]} has" if len(silent) == 1 else f"groups {', '.join(silent)} have"
        return [
            f"{names} collapsed: below {SILENT_NATS} nats per image in every record of the last {step - oldest:,} "
            "steps, so nothing depends on what is inferred there; free bits (`objective { free = at_least(…) }`) or a "
            "slower rise of `beta` keep groups in use"
        ]

    def _turn(self, kind: str, name: str, holds: bool) -> int:
        key = kind, name
        self._windows[key] = self._windows.get(key, 0) + 1 if holds else 0
        return self._windows[key]
