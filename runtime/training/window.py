"""Measurements since the last record: what a line of `metrics.jsonl` and the display are made of."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.training.checkpoint import MANIFEST, Checkpoint, CheckpointError
from hvdsl.runtime.training.metrics import Measurement, plain
from hvdsl.runtime.training.optimization import StepResult

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
