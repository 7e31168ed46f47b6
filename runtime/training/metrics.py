"""What a run measures: `metrics.jsonl`, a JSON object per line, units in the names."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.disk import append_line, write_file

Measurement: TypeAlias = int | float | str | Sequence[float | None] | None
LONGEST_LINE = 1 << 20
"""Bytes of a line that are read; no record of ours comes near."""


class MetricsLog:
    """Appends records to `metrics.jsonl`. NaN and infinities are written as null, since JSON has neither."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        """Add one record: `{"event": "train", "step": 100, "elbo_nats_per_dim": …}`.

        Raises:
            DiskError: The file cannot be written.
            ValueError: There is no such event.
        """
        if event not in names.EVENTS:
            raise ValueError(f"there is no event `{event}`: it is one of {', '.join(names.EVENTS)}")
        record = {"event": event, "step": step} | {name: plain(value) for name, value in values.items()}
        append_line(self._path, json.dumps(record))

    def rewind(self, step: int) -> None:
        """Forget what was written after `step`: a resumed run measures it again."""
        kept = [json.dumps(r) + "\n" for r in read_metrics(self._path) if r["step"] <= step]
        write_file(self._path, "".join(kept))


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All complete records; a last line that a crash cut short is left out."""
    return [record for record in metrics_records(path) if record is not None]


def metrics_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any] | None]:
    """Each record in turn, and None for each line that is none; nothing where there is no file.

    Memory does not grow with the file, whatever is in it.
    """
    path = Path(path)
    if not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            whole = line.endswith(b"\n")
            yield _record(line)
            while not whole and (rest := file.readline(LONGEST_LINE)):
                whole = rest.endswith(b"\n")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def plain(value: Any) -> Any:
    """Return a measurement as JSON has it: what is not finite is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value
