"""Checkpoints: `checkpoints/<step>/` with safetensors and a JSON manifest. Nothing is ever pickled.

A checkpoint is written under a temporary name, flushed to the disk, and renamed; the manifest, with the size and the
SHA-256 of every file, is written last. So a folder whose name is a step is whole, whatever happened to the process that
wrote it, and a failure leaves the ones before it as they were.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from hvdsl.errors import HvdslError

FORMAT = 1
MANIFEST = "manifest.json"

Tensors = Mapping[str, Tensor]


class CheckpointError(HvdslError):
    """A checkpoint cannot be written, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on the disk.

    Attributes:
        step: Steps done before it was taken.
        state: What the writer said beside the tensors, as JSON.
    """

    path: Path
    step: int
    state: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    def __contains__(self, name: str) -> bool:
        return f"{name}.safetensors" in self.files

    def tensors(self, name: str, like: Tensors) -> dict[str, Tensor]:
        """The tensors of part `name`, checked against `like` for names, shapes and types before any is used.

        Raises:
            CheckpointError: The file is missing, damaged, or belongs to another model.
        """
        found = self.load(name)
        expected = {key: (tuple(t.shape), t.dtype) for key, t in like.items()}
        actual = {key: (tuple(t.shape), t.dtype) for key, t in found.items()}
        for key in expected.keys() | actual.keys():
            if expected.get(key) != actual.get(key):
                raise CheckpointError(
                    _mismatch(self.path / f"{name}.safetensors", key, expected.get(key), actual.get(key))
                )
        return found

    def load(self, name: str) -> dict[str, Tensor]:
        """The tensors of part `name`, whatever they are, once size and digest are those of the manifest."""
        file = f"{name}.safetensors"
        if file not in self.files:
            raise CheckpointError(f"{self.path} has no `{name}`: it holds {', '.join(sorted(self.files)) or 'nothing'}")
        try:
            whole = (self.path / file).stat().st_size == self.files[file].get("bytes")
            data = (self.path / file).read_bytes() if whole else b""
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path / file}: {error.strerror}{_way_out(self.path)}") from error
        if _entry(data) != self.files[file]:
            raise CheckpointError(
                f"{self.path / file} is damaged: its size or SHA-256 is not the manifest's{_way_out(self.path)}"
            )
        try:
            return load_tensors(data)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"{self.path / file} is not a safetensors file ({error}){_way_out(self.path)}"
            ) from error


class CheckpointStore:
    """The `checkpoints` folder of a run; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        self.folder = folder
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        names = [p.name for p in self.folder.iterdir() if (p / MANIFEST).is_file()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def open(self, step: int) -> Checkpoint:
        """The checkpoint of that step.

        Raises:
            CheckpointError: There is none, or its manifest is not one.
        """
        path = self.folder / str(step)
        return Checkpoint(path, step, *_read_manifest(path, step))

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint."""
        steps = self.steps()
        return self.open(steps[-1]) if steps else None

    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove the ones that are no longer kept.

        Args:
            parts: Tensors by file name, without the suffix.
            state: Anything else, as JSON.

        Raises:
            CheckpointError: The disk is full, or the folder may not be written; earlier checkpoints are untouched.
        """
        final, temporary = self.folder / str(step), self.folder / f".{step}.tmp"
        try:
            self._clear_remains()
            temporary.mkdir(parents=True)
            files = {}
            for name, tensors in parts.items():
                data = dump_tensors({key: t.detach().contiguous() for key, t in tensors.items()})
                write_durably(temporary / f"{name}.safetensors", data)
                files[f"{name}.safetensors"] = _entry(data)
            manifest = {"format": FORMAT, "complete": True, "step": step, "files": files, "state": state}
            write_durably(temporary / MANIFEST, json.dumps(manifest, indent=1).encode())
            if final.exists():  # the same step, taken again after a resume: the state is the same too
                self._discard(final)
            temporary.rename(final)
            sync_folder(self.folder)
            for old in self.steps()[: -self._keep] if self._keep else []:
                self._discard(self.folder / str(old))
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(self._failure(step, error)) from error
        return final

    def _discard(self, path: Path) -> None:
        """Remove a checkpoint so that no half of it can ever be taken for a whole one."""
        doomed = path.with_name(f".{path.name}.old")
        path.rename(doomed)
        shutil.rmtree(doomed)

    def _clear_remains(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for path in self.folder.glob(".*"):
            if path.suffix in (".tmp", ".old"):
                shutil.rmtree(path)

    def _failure(self, step: int, error: OSError) -> str:
        steps = self.steps()
        kept = f"the checkpoint of step {steps[-1]} is intact" if steps else "there is no earlier checkpoint"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"no space for the checkpoint of step {step} in {self.folder}; {kept}: free some space and resume"
        return f"cannot write the checkpoint of step {step} in {self.folder}: {error.strerror}; {kept}"


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a rename within the folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read_manifest(path: Path, step: int) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """The state and the files that a manifest speaks of."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no complete checkpoint of step {step} in {path.parent}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path / MANIFEST}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / MANIFEST} is not JSON{_way_out(path)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path / MANIFEST} is not a manifest of format {FORMAT}{_way_out(path)}")
    state, files = manifest.get("state"), manifest.get("files")
    if manifest.get("complete") is not True or manifest.get("step") != step:
        raise CheckpointError(f"{path / MANIFEST} does not say that step {step} is complete{_way_out(path)}")
    if (
        not isinstance(state, dict)
        or not isinstance(files, dict)
        or not all(isinstance(f, dict) for f in files.values())
    ):
        raise CheckpointError(f"{path / MANIFEST} lacks `state` or `files`{_way_out(path)}")
    return state, files


def _mismatch(file: Path, key: str, expected: Any, actual: Any) -> str:
    if actual is None:
        return f"{file} belongs to another model: it has no `{key}`, which this model has"
    if expected is None:
        return f"{file} belongs to another model: its `{key}` is not in this one"
    there, here = (f"{list(shape)} {dtype}" for shape, dtype in (actual, expected))
    return f"{file} belongs to another model: `{key}` is {there} there and {here} here"


def _way_out(path: Path) -> str:
    return f"; remove {path} to go on from the checkpoint before it"
