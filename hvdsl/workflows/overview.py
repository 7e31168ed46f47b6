"""Runs in a folder: what state each is in, how far it came, what its best figures are. Loads no model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hvdsl.errors import HvdslError
from hvdsl.report.records import Records, read_records
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.training.folder.checkpoint import Checkpoint, CheckpointStore
from hvdsl.runtime.training.folder.lock import is_written
from hvdsl.runtime.training.folder.logs import ENVIRONMENT
from hvdsl.runtime.training.folder.saving import BEST, RECORD

State = Literal["running", "finished", "stopped", "failed", "not begun"]
DEEPEST, MOST_FOLDERS, MOST_FILES = 4, 20_000, 200_000


@dataclass(frozen=True, slots=True)
class RunOverview:
    """What a run folder says of itself.

    Attributes:
        name: Its path below the folder that was looked at.
        state: `running` while a process holds its lock; `finished` at the last step that was asked for, or by
            `patience`; `failed` where its log ends with that, or it has no checkpoint and nobody trains it; `not begun`
            where it measured nothing.
        steps: Of the whole run; None where its checkpoint does not say.
        best: The best validation, by the name of what it is judged by.
        best_step: When that was.
        last: The last measurement of training, of the same kind.
        age_seconds: Since something was written last.
        bytes: Of all its files.
        problem: What of it could not be read; empty where all could.
    """

    name: str
    path: str
    state: State
    step: int
    steps: int | None
    judged_by: str | None
    best: float | None
    best_step: int | None
    last: float | None
    age_seconds: float
    bytes: int
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `runs --json`."""
        return asdict(self)


def list_runs(folder: Path) -> list[RunOverview]:
    """Every run in a folder, at most four levels down, the newest last.

    Raises:
        HvdslError: There is no such folder.
    """
    if not folder.is_dir():
        raise HvdslError(f"there is no folder {folder}: name the one that your runs are in, as `hvdsl runs FOLDER`")
    found = [overview(path, _named(folder, path)) for path in _run_folders(folder)]
    return sorted(found, key=lambda run: -run.age_seconds)


def overview(path: Path, name: str = "", records: Records | None = None) -> RunOverview:
    """What one run folder says of itself.

    Args:
        name: What it is called (default: the name of its folder).
        records: Its log, where that was read already.
    """
    records = read_records(path / "metrics.jsonl") if records is None else records
    checkpoint, problem = _newest(path)
    judged_by = next((n for n in BEST if records.named(n)), None)
    validation = records.curve("validation", judged_by or "")
    best, last = validation.least, records.curve("train", judged_by or "").last
    asked = _asked(checkpoint)
    size, changed = _size(path)
    return RunOverview(
        name=name or path.resolve().name,
        path=str(path),
        state=_state(path, records, checkpoint, asked),
        step=max(records.step, 0 if checkpoint is None else checkpoint.step),
        steps=_whole(asked.get("steps")),
        judged_by=judged_by,
        best=None if best is None else best[1],
        best_step=None if best is None else int(best[0]),
        last=None if last is None else last[1],
        age_seconds=max(0.0, time.time() - changed),
        bytes=size,
        problem=problem,
    )


def holds_priors_alone(path: Path) -> bool:
    """Whether a run trains nothing itself: its priors, over codes from a file, are runs of their own."""
    return (path / "priors").is_dir() and not any((path / name).exists() for name in ("metrics.jsonl", "checkpoints"))


def prior_runs(path: Path) -> list[Path]:
    """The folders of a run's priors that were begun."""
    priors = path / "priors"
    return [p for p in sorted(priors.iterdir()) if (p / ENVIRONMENT).is_file()] if priors.is_dir() else []


def _run_folders(folder: Path) -> Iterator[Path]:
    """The folder itself, if it is a run, and those in it, priors of a run included; links are not followed."""
    seen = 0
    waiting = [(folder, 0)]
    while waiting and seen < MOST_FOLDERS:
        path, depth = waiting.pop()
        seen += 1
        is_run = (path / ENVIRONMENT).is_file()
        if is_run and not holds_priors_alone(path):
            yield path
        within = path / "priors" if is_run else path
        if depth >= DEEPEST or not within.is_dir():
            continue
        try:
            inner = sorted(p for p in within.iterdir() if p.is_dir() and not p.is_symlink() and p.name[0] != ".")
        except OSError:  # may not be read
            continue
        waiting += [(p, depth + 1) for p in reversed(inner)]


def _named(folder: Path, path: Path) -> str:
    return path.resolve().name if path == folder else path.relative_to(folder).as_posix()


def _newest(path: Path) -> tuple[Checkpoint | None, str]:
    """The newest checkpoint that has a manifest, and what is wrong with those after it."""
    store, problem = CheckpointStore(path / "checkpoints"), ""
    for step in reversed(store.numbers()):
        try:
            return store.open(step), problem
        except HvdslError as error:
            problem = problem or str(error)
    return None, problem


def _asked(checkpoint: Checkpoint | None) -> Mapping[str, Any]:
    train = {} if checkpoint is None else checkpoint.state.get("train")
    return train if isinstance(train, Mapping) else {}


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


def _state(path: Path, records: Records, checkpoint: Checkpoint | None, asked: Mapping[str, Any]) -> State:
    if is_written(path):
        return "running"
    if checkpoint is not None:
        steps, epochs = _whole(asked.get("steps")), _whole(asked.get("epochs"))
        done = records.curve("train", names.EPOCH).last
        if (steps is not None and checkpoint.step >= steps) or (epochs and done and done[1] >= epochs - 1e-6):
            return "finished"
        best, patience = checkpoint.state.get(RECORD), _whole(asked.get("patience"))
        since = _whole(best.get("since")) if isinstance(best, Mapping) else None
        if patience is not None and since is not None and since >= patience:
            return "finished"
    if records.last_event == names.STALLED or (checkpoint is None and records.count):
        return "failed"
    return "stopped" if checkpoint is not None else "not begun"


def _size(path: Path) -> tuple[int, float]:
    """Bytes of all files, and when the last of them was written; of very many files those that come first."""
    total, latest, count = 0, path.stat().st_mtime, 0
    for folder, _, files in os.walk(path):
        for file in files:
            count += 1
            if count > MOST_FILES:
                return total, latest
            try:
                about = os.lstat(os.path.join(folder, file))  # noqa: PTH118  # of very many files, at the cost of a path
            except OSError:  # removed meanwhile
                continue
            total += about.st_size
            latest = max(latest, about.st_mtime)
    return total, latest
