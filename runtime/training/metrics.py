"""What a run measures: a JSON object per line, units in the names; TensorBoard as well where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from hvdsl.runtime.ground.disk import append_line, write_file

Measurement: TypeAlias = int | float | str | Sequence[float | None] | None


class Scalars(Protocol):
    """The part of TensorBoard's writer that is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class MetricsLog:
    """Appends records to `metrics.jsonl`. NaN and infinities are written as null, since JSON has neither."""

    def __init__(self, path: Path, events: Path | None = None) -> None:
        self._path = path
        self._scalars = _tensorboard(events) if events is not None else None

    @property
    def writes_events(self) -> bool:
        """Whether TensorBoard files are written too."""
        return self._scalars is not None

    def write(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        """Add one record: `{"event": "train", "step": 100, "elbo_nats_per_dim": …}`.

        Raises:
            DiskError: The file cannot be written.
        """
        record = {"event": event, "step": step} | {name: plain(value) for name, value in values.items()}
        append_line(self._path, json.dumps(record))
        if self._scalars is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, int | float):
                    self._scalars.add_scalar(f"{event}/{name}", value, step)
            self._scalars.flush()

    def rewind(self, step: int) -> None:
        """Forget what was written after `step`: a resumed run measures it again."""
        kept = [json.dumps(r) + "\n" for r in read_metrics(self._path) if r["step"] <= step]
        write_file(self._path, "".join(kept))

    def close(self) -> None:
        if self._scalars is not None:
            self._scalars.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All complete records; a last line that a crash cut short is left out."""
    path = Path(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def plain(value: Any) -> Any:
    """Return a measurement as JSON has it: what is not finite is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def _tensorboard(folder: Path) -> Scalars | None:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
