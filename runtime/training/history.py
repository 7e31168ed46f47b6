"""What was asked of a run at each of its starts: `history.jsonl`, a line per start, and `resolved/N.hv`, its spec.

A start writes the spec under its number, then its line, then puts the spec in the place of `resolved.hv`. So whatever
moment a process dies at, the run is of the earlier start or of the later one, and the next start finishes what was
begun.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.disk import append_line, read_json, sync, write_file

HISTORY, VERSIONS, CURRENT = "history.jsonl", "resolved", "resolved.hv"
ENVIRONMENT = "environment.json"


class HistoryError(HvdslError):
    """The history of a run is not one."""


def first_line(entry: Mapping[str, Any], resolved: str) -> dict[str, str]:
    """The files with which the history of a new run begins, by name."""
    return {
        HISTORY: json.dumps({"start": 0, **entry, "resolved": f"{VERSIONS}/0.hv"}) + "\n",
        f"{VERSIONS}/0.hv": resolved,
        CURRENT: resolved,
    }


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
        line = {"start": number, **entry, "resolved": f"{VERSIONS}/{number}.hv"}
        append_line(self.folder / HISTORY, json.dumps(line))
        sync(self.folder / HISTORY)
        write_file(self.folder / CURRENT, resolved)

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
