"""The log of a run as curves: memory and output are bounded, whatever is in the file."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.metric_names import METRICS, metric
from hvdsl.runtime.training.folder.logs import metrics_records

MOST_POINTS = 40_000  # of a curve in memory
MOST_SNAPSHOTS = 48  # of the numbers of all groups
MOST_GROUPS = 4_096
LARGEST_STEP = 10**15
LARGEST = 1e39  # more than any float32

Bucket = tuple[float, float, float, float]
"""The step of the least value, that value, the step of the largest, that value."""


class Curve:
    """Values by step, kept to a bounded number of points: of neighbours the least and the largest stay."""

    def __init__(self) -> None:
        self.steps, self.values = array("d"), array("d")
        self.not_finite = 0

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, value: float) -> None:
        self.steps.append(step)
        self.values.append(value)
        if len(self.steps) >= MOST_POINTS:
            ends = [end for b in _extremes(self.steps, self.values, range(0, len(self), 4), 4) for end in _two(b)]
            self.steps, self.values = array("d", [s for s, _ in ends]), array("d", [v for _, v in ends])

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest point."""
        return (self.steps[-1], self.values[-1]) if len(self) else None

    @property
    def least(self) -> tuple[float, float] | None:
        """The point with the least value, the first of equals."""
        i = min(range(len(self)), key=self.values.__getitem__, default=None)
        return None if i is None else (self.steps[i], self.values[i])

    def decimated(self, buckets: int) -> list[tuple[float, float]]:
        """At most `2 · buckets` points: of each stretch of steps the least and the largest value, in order."""
        if len(self) <= 2 * buckets:
            return list(zip(self.steps, self.values, strict=True))
        size = math.ceil(len(self) / buckets)
        parts = _extremes(self.steps, self.values, range(0, len(self), size), size)
        return [end for bucket in parts for end in _two(bucket)]


@dataclass
class Records:
    """What a log says.

    Attributes:
        curves: Of each event, the numbers by name.
        stalls: Steps at which training ended since too many updates were skipped.
        skips: Step, and the updates left out since the record before, where there were any.
        count: Records that were read.
        unreadable: Lines that are no records.
        unknown: Measurements whose names are not in the vocabulary.
    """

    curves: dict[tuple[str, str], Curve] = field(default_factory=dict)
    skips: list[tuple[int, int]] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    count: int = 0
    unreadable: int = 0
    unknown: int = 0
    step: int = 0
    last_event: str = ""
    _lists: dict[tuple[str, str], list[tuple[int, list[Any]]]] = field(default_factory=dict)
    _strides: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # taken every so many; seen

    def curve(self, event: str, name: str) -> Curve:
        """The curve of that name; an empty one where it was not measured."""
        return self.curves.get((event, name)) or Curve()

    def named(self, name: str) -> bool:
        """Whether any event measured it."""
        return any(key[1] == name and len(curve) for key, curve in self.curves.items())

    def snapshots(self, event: str, name: str) -> list[tuple[int, list[float]]]:
        """The numbers of all latent groups at some steps, the first and the last among them; NaN for what is none."""
        return [(step, [_number(value) for value in values]) for step, values in self._lists.get((event, name), [])]

    def _add(self, record: Mapping[str, Any]) -> None:
        event, step = record.get("event"), record["step"]
        if not isinstance(event, str) or event not in names.EVENTS or not 0 <= step <= LARGEST_STEP:
            self.unreadable += 1
            return
        self.count += 1
        self.step, self.last_event = step, event
        if event == names.STALLED and len(self.stalls) < MOST_SNAPSHOTS:
            self.stalls.append(step)
        for name, value in record.items():
            if name in ("event", "step"):
                continue
            known = METRICS.get(name) or metric(name)
            if known is None:
                self.unknown += 1
            elif known.per_group:
                if isinstance(value, list) and len(value) <= MOST_GROUPS:
                    self._snapshot((event, known.name), step, value)
            else:
                curve = self.curves.setdefault((event, known.name), Curve())
                number = _number(value)
                if math.isfinite(number):
                    curve.add(step, number)
                else:
                    curve.not_finite += 1
        skipped = _number(record.get(names.SKIPPED_STEPS_IN_WINDOW))
        if event == "train" and skipped > 0:
            self.skips.append((step, round(min(skipped, LARGEST_STEP))))
            if len(self.skips) >= MOST_POINTS:
                pairs = zip(self.skips[::2], self.skips[1::2], strict=False)
                self.skips = [(a[0], a[1] + b[1]) for a, b in pairs]

    def _snapshot(self, key: tuple[str, str], step: int, numbers: list[Any]) -> None:
        """Keep every so many, and always the last."""
        kept = self._lists.setdefault(key, [])
        stride, seen = self._strides.get(key, (1, 0))
        if kept and seen and (seen - 1) % stride != 0:
            kept.pop()  # the last one, which was kept as that alone
        kept.append((step, numbers))
        if len(kept) > MOST_SNAPSHOTS:
            kept[1:-1] = kept[2:-1:2]
            stride *= 2
        self._strides[key] = (stride, seen + 1)


def read_records(path: Path) -> Records:
    """What `metrics.jsonl` says; nothing where there is none."""
    return records_of(metrics_records(path))


def records_of(lines: Iterable[Mapping[str, Any] | None]) -> Records:
    """The same of records, None for a line that is none."""
    records = Records()
    for line in lines:
        if line is None:
            records.unreadable += 1
        else:
            records._add(line)
    return records


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return math.nan
    return float(value)


def _extremes(steps: array[float], values: array[float], starts: range, size: int) -> list[Bucket]:
    buckets = []
    for start in starts:
        part = range(start, min(start + size, len(values)))
        low, high = min(part, key=values.__getitem__), max(part, key=values.__getitem__)
        buckets.append((steps[low], values[low], steps[high], values[high]))
    return buckets


def _two(bucket: Bucket) -> list[tuple[float, float]]:
    """The ends of a bucket in order of their steps; one point where they are the same."""
    low, high = bucket[:2], bucket[2:]
    return [low] if low == high else sorted([low, high])
