"""A run is a folder: what was trained, with what, what came of it, and the checkpoints to go on from."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.disk import DiskError, disk_error, new_folder, read_json, write_file, write_json
from hvdsl.runtime.training.folder.checkpoint import CheckpointStore, weights_metadata
from hvdsl.runtime.training.folder.lock import RunLock
from hvdsl.runtime.training.folder.logs import CURRENT, ENVIRONMENT, HISTORY, VERSIONS, History, read_metrics

T = TypeVar("T")

RESOLVED = CURRENT
_OWN = frozenset({
    "checkpoints", "codes", "environment.json", "events", "graph.json", "history.jsonl", "lock", "lock.held",
    "metrics.jsonl", "model.py", "pictures", "resolved", "resolved.hv",
})  # fmt: skip
"""What training writes into a run folder before there is a checkpoint, beside the spec as given."""
_FILES = (ENVIRONMENT, HISTORY, CURRENT, "metrics.jsonl", "lock")
_FOLDERS = ("checkpoints", "codes", "events", "pictures", "priors", VERSIONS)


class RunError(HvdslError):
    """A run folder cannot be made, or is not one."""


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one run.

    It holds `spec.hv` as given, `resolved.hv`, `model.py`, `graph.json`, `environment.json`, `metrics.jsonl`,
    `events/`, `pictures/` and `checkpoints/<step>/`; `history.jsonl` and `resolved/<n>.hv` say what was asked of it at
    each start, and `lock` is held by the process that trains it.
    """

    folder: Path

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], files: Mapping[str, str], environment: Mapping[str, Any] | None = None
    ) -> Run:
        """Make a new run folder that holds `files` (name to text) and a description of this machine.

        A run that was stopped before its first checkpoint has nothing to go on from: its folder is made anew.

        Raises:
            RunError: It exists already, or cannot be written.
            LockError: It exists, and another process is at work in it.
        """
        run = cls(Path(folder))
        try:
            with ExitStack() as stack:
                anew = run.began_nothing
                if anew:
                    stack.enter_context(run.lock())
                new = stack.enter_context(new_folder(run.folder, replace=anew and run.began_nothing))
                (new / "pictures").mkdir()
                for name, text in files.items():
                    write_file(new / name, text)
                write_json(new / ENVIRONMENT, describe_environment() | dict(environment or {}))
        except FileExistsError as error:
            ways = "give another folder with `--out`"
            if run.folder.is_dir() and (run.folder / ENVIRONMENT).is_file():
                ways = f"continue it with `--resume`, or {ways}"
            raise RunError(f"{run.folder} exists already: {ways}") from error
        except DiskError as error:
            raise RunError(f"cannot make the run folder {run.folder}: {error.reason}") from error
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """An existing run.

        Raises:
            RunError: It is not a run folder, or something of another kind stands where a file of it belongs.
        """
        run = cls(Path(folder))
        if not run.folder.is_dir():
            raise RunError(f"there is no run folder {run.folder}")
        if not (run.folder / ENVIRONMENT).is_file():
            raise RunError(f"{run.folder} is not a run folder: it has no {ENVIRONMENT}")
        for path in (run.folder / name for name in _FILES):
            if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would be waited for
                raise RunError(f"{path} is no file: put one in its place, or remove it")
        return run

    def check_places(self) -> None:
        """Refuse to write where something else stands, and to places outside of the run, which links in it lead to.

        Raises:
            RunError: One of its files or folders is of another kind; one of its folders, or its lock, is a link.
        """
        for name in _FILES:
            if (self.folder / name).is_dir():
                raise RunError(f"{self.folder / name} is no file: put one in its place, or remove it")
        for name in _FOLDERS:
            if (self.folder / name).exists() and not (self.folder / name).is_dir():
                raise RunError(f"{self.folder / name} is no folder: put one in its place, or remove it")
        for name in (*_FOLDERS, "lock"):
            if (self.folder / name).is_symlink():
                raise RunError(
                    f"{self.folder / name} is a link, and a run is not written to through one: put what it leads to "
                    "in its place, or make the whole run folder a link"
                )

    @property
    def began_nothing(self) -> bool:
        """Whether it is a run without a checkpoint, and nothing but what training makes is in its folder."""
        if not (self.folder / ENVIRONMENT).is_file() or self.folder.is_symlink():
            return False
        own = all(path.name in _OWN or path.name.startswith(("spec.", ".")) for path in self.folder.iterdir())
        return own and not self.checkpoints().numbers()

    def clear_remains(self) -> None:
        """Remove what a killed trainer left half written among the run's own files; for the holder of its lock.

        Raises:
            DiskError: One cannot be removed.
        """
        own = tuple(f".{name}." for name in _OWN)
        places = [p for p in self.folder.glob(".*.tmp") if p.name.startswith(own)]
        for path in [*places, *self.pictures.glob(".*.tmp"), *(self.folder / VERSIONS).glob(".*.tmp")]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise disk_error(path, error) from error

    def lock(self) -> RunLock:
        """The right to write to it, to be entered or acquired; see there."""
        return RunLock(self.folder)

    @property
    def history(self) -> History:
        """What was asked of it at each start."""
        return History(self.folder)

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def checkpoints(self) -> CheckpointStore:
        """The store of checkpoints."""
        return CheckpointStore(self.folder / "checkpoints", self._weights_metadata())

    def _weights_metadata(self) -> dict[str, str] | None:
        """What this run's files of weights say of themselves; nothing where it has no spec."""
        if not (self.folder / RESOLVED).is_file():
            return None
        prior_of = self.folder.name if "codes" in self.environment() else None
        return weights_metadata(self.spec(), prior_of)

    def metrics(self) -> list[dict[str, Any]]:
        """Everything measured so far."""
        return read_metrics(self.metrics_path)

    def environment(self) -> dict[str, Any]:
        """What the run noted of its machine and its data.

        Raises:
            RunError: It cannot be read.
        """
        try:
            return read_json(self.folder / ENVIRONMENT)
        except FileNotFoundError as error:
            raise RunError(f"{self.folder} has no {ENVIRONMENT}") from error
        except DiskError as error:
            raise RunError(f"{self.folder / ENVIRONMENT} is damaged: restore it, or write `{{}}` into it") from error

    @property
    def data(self) -> Path | None:
        """Where its images were read from at its last start, as far as it has noted that.

        Raises:
            RunError: The note is no path.
        """
        if (self.folder / HISTORY).is_file():
            noted = self.history.entries()[-1].get("data")
            if noted is not None and not isinstance(noted, str):
                raise RunError(f"{self.folder / HISTORY} says `data` is {json.dumps(noted)[:40]}, where a path belongs")
        else:
            noted = self._noted("data", str, "a path")
        return Path(noted) if noted else None

    @property
    def level(self) -> int:
        """The optimisation level that it was made with.

        Raises:
            RunError: The note is no number, or not what its first start says.
        """
        noted = self._noted("level", int, "0, 1 or 2")
        level = 1 if noted is None else noted
        began = self.history.entries()[0].get("level", level)
        if began != level:
            raise RunError(
                f"{self.folder / ENVIRONMENT} says `level` is {level}, and {HISTORY} that the run began with "
                f"{json.dumps(began)[:40]}: restore the one that was changed"
            )
        return level

    def _noted(self, key: str, kind: type[T], wanted: str) -> T | None:
        value = self.environment().get(key)
        if value is None or type(value) is kind:
            return value
        raise RunError(f"{self.folder / ENVIRONMENT} says `{key}` is {json.dumps(value)[:40]}, where {wanted} belongs")

    def spec(self) -> str:
        """The text of its resolved spec.

        Raises:
            RunError: It is not there, or not text.
            HistoryError: It is not the one that the run noted when it was started.
        """
        text = self.read(RESOLVED)
        self.history.check_spec(text)
        return text

    def read(self, name: str) -> str:
        """The text of one of the run's files.

        Raises:
            RunError: It is not there, or not text.
        """
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise RunError(f"{self.folder} has no {name}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read {self.folder / name}: {error}") from error


def default_folder(model: str) -> Path:
    """`runs/<model>-<time>`, with a number where two runs start in one second."""
    name = f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, n = Path("runs") / name, 2
    while folder.exists():
        folder, n = Path("runs") / f"{name}-{n}", n + 1
    return folder


def describe_environment() -> dict[str, Any]:
    """The software, the machine and the number of threads: what a result may depend on beside the spec."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "byte_order": sys.byteorder,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
