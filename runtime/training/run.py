"""A run is a folder: what was trained, with what, what came of it, and the checkpoints to go on from."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.disk import DiskError, new_folder, read_json, write_file, write_json
from hvdsl.runtime.training.checkpoint import CheckpointStore, weights_metadata
from hvdsl.runtime.training.metrics import read_metrics

T = TypeVar("T")

RESOLVED, ENVIRONMENT = "resolved.hv", "environment.json"


class RunError(HvdslError):
    """A run folder cannot be made, or is not one."""


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one run.

    It holds `spec.hv` as given, `resolved.hv`, `model.py`, `graph.json`, `environment.json`, `metrics.jsonl`,
    `events/`, `pictures/` and `checkpoints/<step>/`.
    """

    folder: Path

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], files: Mapping[str, str], environment: Mapping[str, Any] | None = None
    ) -> Run:
        """Make a new run folder that holds `files` (name to text) and a description of this machine.

        Raises:
            RunError: It exists already, or cannot be written.
        """
        run = cls(Path(folder))
        try:
            with new_folder(run.folder) as new:
                (new / "pictures").mkdir()
                for name, text in files.items():
                    write_file(new / name, text)
                write_json(new / ENVIRONMENT, describe_environment() | dict(environment or {}))
        except FileExistsError as error:
            ways = "give another folder with `--out`"
            if run.folder.is_dir() and (run.folder / ENVIRONMENT).is_file():
                begun = bool(run.checkpoints().steps())
                ways = f"{'continue it' if begun else 'it has no checkpoint, begin it anew'} with `--resume`, or {ways}"
            raise RunError(f"{run.folder} exists already: {ways}") from error
        except DiskError as error:
            raise RunError(f"cannot make the run folder {run.folder}: {error.reason}") from error
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """An existing run.

        Raises:
            RunError: It is not a run folder.
        """
        run = cls(Path(folder))
        if not run.folder.is_dir():
            raise RunError(f"there is no run folder {run.folder}")
        if not (run.folder / ENVIRONMENT).is_file():
            raise RunError(f"{run.folder} is not a run folder: it has no {ENVIRONMENT}")
        return run

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def checkpoints(self, keep: int | None = None) -> CheckpointStore:
        """The store of checkpoints; with `keep`, saving removes all but so many."""
        return CheckpointStore(self.folder / "checkpoints", keep, self._weights_metadata())

    def _weights_metadata(self) -> dict[str, str] | None:
        """What this run's files of weights say of themselves; nothing where it has no spec."""
        if not (self.folder / RESOLVED).is_file():
            return None
        prior_of = self.folder.name if "codes" in self.environment() else None
        return weights_metadata(self.read(RESOLVED), prior_of)

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
        """Where its images were read from, as far as it has noted that. Raises RunError where the note is no path."""
        noted = self._noted("data", str, "a path")
        return Path(noted) if noted else None

    @property
    def level(self) -> int:
        """The optimisation level that it was made with. Raises RunError where the note is no number."""
        noted = self._noted("level", int, "0, 1 or 2")
        return 1 if noted is None else noted

    def _noted(self, key: str, kind: type[T], wanted: str) -> T | None:
        value = self.environment().get(key)
        if value is None or type(value) is kind:
            return value
        raise RunError(f"{self.folder / ENVIRONMENT} says `{key}` is {json.dumps(value)[:40]}, where {wanted} belongs")

    def read(self, name: str) -> str:
        """The text of one of the run's files, such as `resolved.hv`.

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
