"""Measurements since the last record: what a line of `metrics.jsonl` and the display are made of."""

from __future__ import annotations

import math
import time

from hvdsl.runtime.metrics import Value
from hvdsl.runtime.optimization import StepResult


class Window:
    """Collects steps and sums them up.

    Terms are means over the steps whose value is finite, so that one skipped NaN does not blot out the rest; the
    gradient norm is the largest finite one, since that is what clipping and skipping thresholds are set by.
    """

    def __init__(self) -> None:
        self._results: list[StepResult] = []
        self._images = 0
        self._began = time.perf_counter()

    def add(self, result: StepResult, images: int) -> None:
        self._results.append(result)
        self._images += images

    def __len__(self) -> int:
        return len(self._results)

    def summary(self) -> dict[str, Value]:
        """Measurements by name, units in the names; starts the next window."""
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        last = self._results[-1]
        values: dict[str, Value] = {"objective": _mean([r.loss for r in self._results])}
        for name, numbers in last.terms.items():
            columns = [_mean([r.terms[name][i] for r in self._results]) for i in range(len(numbers))]
            values[name] = columns if "_per_group_" in name else columns[0]
        norms = [r.gradient_norm for r in self._results if math.isfinite(r.gradient_norm)]
        values |= {
            "gradient_norm": max(norms, default=math.nan),
            "learning_rate": last.learning_rate,
            "skipped_steps_in_window": sum(not r.applied for r in self._results),
            "images_per_second": self._images / elapsed,
            "seconds_per_step": elapsed / len(self._results),
        }
        self._results, self._images, self._began = [], 0, time.perf_counter()
        return values


def _mean(values: list[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan
