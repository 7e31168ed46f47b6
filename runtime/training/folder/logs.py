"""What a run writes down line by line: `metrics.jsonl`, what it measures, and `history.jsonl`, what its starts asked.

A line of `metrics.jsonl` is a JSON object, with units in the names. A start has a line in `history.jsonl` and its spec
in `resolved/N.hv`: it writes the spec under its number, then its line, then puts the spec in the place of
`resolved.hv`. So whatever moment a process dies at, the run is of the earlier start or of the later one, and the next
start finishes what was begun.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.disk import append_line, read_json, sync, write_file

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


HISTORY, VERSIONS, CURRENT = "history.jsonl", "resolved", "resolved.hv"
ENVIRONMENT = "environment.json"
SPEC_DIGEST = "spec_sha256"
"""The entry of a start that holds the SHA-256 of its spec."""


class HistoryError(HvdslError):
    """The history of a run is not one."""


def first_line(entry: Mapping[str, Any], resolved: str) -> dict[str, str]:
    """The files with which the history of a new run begins, by name."""
    return {
        HISTORY: json.dumps(_line(0, entry, resolved)) + "\n",
        f"{VERSIONS}/0.hv": resolved,
        CURRENT: resolved,
    }


def _line(number: int, entry: Mapping[str, Any], resolved: str) -> dict[str, Any]:
    return {"start": number, **entry, "resolved": f"{VERSIONS}/{number}.hv", SPEC_DIGEST: _digest(resolved)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class History:
    """The starts of a run, the oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[dict[str, Any]]:
        """A record for each start. A run of version 0.1 has one, made of what its `environment.json` says.

        Raises:
            HistoryError: A line is not one of ours; the last one may be cut short, since a killed process wrote it.
        """
        path = self.folder / HISTORY
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return [self._before_there_was_one()]
        except OSError as error:
            raise HistoryError(f"cannot read {path}: {error.strerror}") from error
        entries = []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if isinstance(entry, dict):
                entries.append(entry)
            elif number < len(lines):
                raise HistoryError(f"line {number} of {path} is no JSON object: restore it, or remove the line")
        return entries or [self._before_there_was_one()]

    def add(self, entry: Mapping[str, Any], resolved: str) -> None:
        """Note a start with its spec, which becomes the run's.

        Raises:
            DiskError: It cannot be written; the run is as it was.
            HistoryError: As `entries`.
        """
        entries = self.entries()
        if not (self.folder / HISTORY).is_file():  # of version 0.1
            current = (self.folder / CURRENT).read_text(encoding="utf-8")
            for name, text in first_line(entries[0], current).items():
                if name != CURRENT:
                    write_file(self.folder / name, text)
        elif not _ends_a_line(self.folder / HISTORY):
            write_file(self.folder / HISTORY, "".join(json.dumps(e) + "\n" for e in entries))
        number = len(entries)
        write_file(self.folder / VERSIONS / f"{number}.hv", resolved)
        append_line(self.folder / HISTORY, json.dumps(_line(number, entry, resolved)))
        sync(self.folder / HISTORY)
        write_file(self.folder / CURRENT, resolved)

    def check_spec(self, text: str) -> None:
        """Refuse a spec of the run that is not the one that its last start noted.

        One start may have been noted whose spec is not in place yet, so that of the start before it is good too. A run
        that noted none, as those of version 0.1, has what it has.

        Raises:
            HistoryError: The spec was changed behind the run's back.
        """
        if not (self.folder / HISTORY).is_file():
            return
        entries = self.entries()
        noted = [entry[SPEC_DIGEST] for entry in entries[-2:] if SPEC_DIGEST in entry]
        if noted and _digest(text) not in noted:
            path, version = self.folder / CURRENT, self.folder / VERSIONS / f"{len(entries) - 1}.hv"
            raise HistoryError(
                f"{path} is not the spec that the run was trained with: it was changed or damaged; restore it from "
                f"{version}, and change settings with `--set`"
            )

    def settle(self) -> None:
        """Finish a start whose process died between noting it and putting its spec in place."""
        if not (self.folder / HISTORY).is_file():
            return
        last = len(self.entries()) - 1
        new, old = (self.folder / VERSIONS / f"{number}.hv" for number in (last, last - 1))
        if last > 0 and new.is_file() and old.is_file():
            current = (self.folder / CURRENT).read_bytes()
            if current == old.read_bytes() != new.read_bytes():
                write_file(self.folder / CURRENT, new.read_bytes())

    def _before_there_was_one(self) -> dict[str, Any]:
        try:
            noted = read_json(self.folder / ENVIRONMENT)
        except FileNotFoundError:
            noted = {}
        return {
            "start": 0,
            "time": noted.get("started"),
            "version": None,
            "data": noted.get("data"),
            "level": noted.get("level", 1),
            "torch": noted.get("torch"),
            "from_step": 0,
        }


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
