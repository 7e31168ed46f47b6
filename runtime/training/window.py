"""Measurements since the last record: what a line of `metrics.jsonl` and the display are made of."""

from __future__ import annotations

import math
import sys

import torch

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.training.metrics import Measurement
from hvdsl.runtime.training.optimization import StepResult


class Window:
    """Collects steps and sums them up.

    Terms are means over the steps whose value is finite, so that one skipped NaN does not blot out the rest; the
    gradient norm is the largest finite one, since that is what clipping and skipping thresholds are set by.
    """

    def __init__(self) -> None:
        self._results: list[StepResult] = []
        self._images = 0
        self._seconds = 0.0

    def add(self, result: StepResult, images: int, seconds: float) -> None:
        """One step that took `images` images and `seconds`, reading them included."""
        self._results.append(result)
        self._images += images
        self._seconds += seconds

    def __len__(self) -> int:
        return len(self._results)

    def summary(self) -> dict[str, Measurement]:
        """Measurements by name, units in the names; starts the next window."""
        last = self._results[-1]
        values: dict[str, Measurement] = {names.OBJECTIVE: _mean([r.loss for r in self._results])}
        for name, numbers in last.terms.items():
            columns = [_mean([r.terms[name][i] for r in self._results]) for i in range(len(numbers))]
            values[name] = columns if names.is_per_group(name) else columns[0]
        norms = [r.gradient_norm for r in self._results if math.isfinite(r.gradient_norm)]
        values |= {
            names.GRADIENT_NORM: max(norms, default=math.nan),
            names.LEARNING_RATE: last.learning_rate,
            names.SKIPPED_STEPS_IN_WINDOW: sum(not r.applied for r in self._results),
            names.IMAGES_PER_SECOND: self._images / max(self._seconds, 1e-9),
            names.SECONDS_PER_STEP: self._seconds / len(self._results),
        }
        self._results, self._images, self._seconds = [], 0, 0.0
        return values


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


def _mean(values: list[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan
