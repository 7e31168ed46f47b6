"""Checkpoints: `checkpoints/<step>/` with safetensors and a JSON manifest. Nothing is ever pickled.

The manifest has the size and the SHA-256 of every file and of itself, and the folder takes its name when all of it is
on the disk. So a folder whose name is a step is whole, whatever happened to the process that wrote it, and a failure
leaves the ones before it as they were. A file of weights also says in its metadata of which spec they are: it is a
model by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.disk import (
    DiskError,
    clear_remains,
    disk_error,
    new_folder,
    read_json,
    remove_folder,
    write_file,
    write_json,
)
from hvdsl.runtime.ground.noise import SCHEMES

FORMAT, UNSEALED = 2, 1
"""Of manifests: since 2 they hold a digest of themselves; those of version 0.1 have none."""
SEAL = "sha256"
MANIFEST = "manifest.json"
WEIGHTS = ("model", "ema")
"""Parts that are weights of the model, as trained and averaged; the others are the optimisation's."""
SPEC, DIGEST, STEP = "hvdsl.spec", "hvdsl.spec_sha256", "hvdsl.step"
NOISE_SCHEME, PRIOR_OF = "hvdsl.noise_scheme", "hvdsl.prior"
"""Metadata of a file of weights: the text of the resolved spec and its SHA-256, the steps of training, the noise
scheme, and the latent whose prior they are of, where they are not the model's."""
CONTENT = "hvdsl.sha256"
"""The SHA-256 of everything else in the file; those of version 0.1 have none."""

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

    @property
    def noise_scheme(self) -> int:
        """The scheme that the run draws its noise by; a checkpoint that names none is of the first.

        Raises:
            CheckpointError: The scheme is none that is known here.
        """
        scheme = self.state.get("noise_scheme", 1)
        if type(scheme) is not int or scheme not in SCHEMES:
            raise CheckpointError(
                f"{self.path / MANIFEST} names the noise scheme {scheme!r}; known are "
                f"{', '.join(map(str, SCHEMES))}: it is damaged, or of a newer version"
            )
        return scheme

    def tensors(self, name: str, like: Tensors) -> dict[str, Tensor]:
        """The tensors of part `name`, checked against `like` for names, shapes and types before any is used.

        Raises:
            CheckpointError: The file is missing, damaged, or belongs to another model.
        """
        loaded = self.load(name)
        expected = {key: (tuple(t.shape), t.dtype) for key, t in like.items()}
        actual = {key: (tuple(t.shape), t.dtype) for key, t in loaded.items()}
        for key in expected.keys() | actual.keys():
            if expected.get(key) != actual.get(key):
                raise CheckpointError(
                    _mismatch(self.path / f"{name}.safetensors", key, expected.get(key), actual.get(key))
                )
        return loaded

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
    """The `checkpoints` folder of a run.

    Args:
        metadata: What files of weights say of themselves beside steps and noise scheme: see `weights_metadata`.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._metadata = metadata

    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint, ascending."""
        return [step for step in self.numbers() if (self.folder / str(step) / MANIFEST).is_file()]

    def open(self, step: int) -> Checkpoint:
        """The checkpoint of that step.

        Raises:
            CheckpointError: There is none, or its manifest is not one.
        """
        path = self.folder / str(step)
        if not path.is_dir():
            there = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"there is no checkpoint of step {step} in {self.folder}: there are {there}")
        return Checkpoint(path, step, *_read_manifest(path, step))

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint; None where there is none.

        Raises:
            CheckpointError: It has no manifest, which no failure of ours leaves behind, or a damaged one.
        """
        numbers = self.numbers()
        return self.open(numbers[-1]) if numbers else None

    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint.

        Args:
            parts: Tensors by file name, without the suffix.
            state: Anything else, as JSON.

        Raises:
            CheckpointError: The disk is full, or the folder may not be written; earlier checkpoints are untouched.
        """
        final = self.folder / str(step)
        try:
            clear_remains(self.folder)
            # The same step may be taken again after a resume: the state is the same too.
            with new_folder(final, replace=True) as folder:
                files = {}
                for name, tensors in parts.items():
                    data = tensor_file(tensors, self._about(name, step, state))
                    write_file(folder / f"{name}.safetensors", data)
                    files[f"{name}.safetensors"] = _entry(data)
                manifest = {"format": FORMAT, "complete": True, "step": step, "files": files, "state": state}
                write_json(folder / MANIFEST, _sealed(manifest), indent=1)
        except (DiskError, OSError) as error:
            raise CheckpointError(self._failure(step, error)) from error
        return final

    def prune(self, newest: int, besides: int | None = None) -> None:
        """Remove all but the newest so many, and the one of the step `besides`.

        Raises:
            CheckpointError: One cannot be removed.
        """
        for old in self.steps()[:-newest]:
            if old != besides:
                try:
                    remove_folder(self.folder / str(old))
                except OSError as error:
                    raise CheckpointError(f"cannot remove {self.folder / str(old)}: {error.strerror}") from error

    def annotate(self, step: int, entries: Mapping[str, Any]) -> None:
        """Give the state of a checkpoint entries that were not known when it was taken.

        Raises:
            CheckpointError: It is not there, or cannot be written; it is as it was.
        """
        path = self.folder / str(step)
        _read_manifest(path, step)
        try:
            manifest = read_json(path / MANIFEST)
            manifest["state"] |= entries
            if manifest["format"] == FORMAT:
                manifest = _sealed(manifest)
            write_json(path / MANIFEST, manifest, indent=1)
        except (DiskError, OSError) as error:
            raise CheckpointError(f"cannot write into the checkpoint of step {step}: {error}") from error

    def put_aside(self, step: int) -> Path | None:
        """Move what is newer than `step` into a folder of its own, which nothing reads; returns that folder.

        Raises:
            CheckpointError: It cannot be moved.
        """
        newer = [number for number in self.numbers() if number > step]
        if not newer:
            return None
        names = (self.folder / f"aside-{n}" for n in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        try:
            aside.mkdir()
            for number in newer:
                (self.folder / str(number)).rename(aside / str(number))
        except OSError as error:
            raise CheckpointError(f"cannot move checkpoints newer than {step}: {error.strerror}") from error
        return aside

    def numbers(self) -> list[int]:
        """The steps that have a folder, ascending."""
        if not self.folder.is_dir():
            return []
        names = [p.name for p in self.folder.iterdir() if p.is_dir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _about(self, part: str, step: int, state: Mapping[str, Any]) -> dict[str, str] | None:
        if part not in WEIGHTS or self._metadata is None:
            return None
        return {**self._metadata, STEP: str(step), NOISE_SCHEME: str(state.get("noise_scheme", 1))}

    def _failure(self, step: int, error: DiskError | OSError) -> str:
        steps = self.steps()
        kept = f"the checkpoint of step {steps[-1]} is intact" if steps else "there is no earlier checkpoint"
        failure = error if isinstance(error, DiskError) else disk_error(self.folder, error)
        if failure.full:
            return f"no space for the checkpoint of step {step} in {self.folder}; {kept}: free some space and resume"
        return f"cannot write the checkpoint of step {step} in {self.folder}: {failure.reason}; {kept}"


def weights_metadata(spec: str, prior_of: str | None = None) -> dict[str, str]:
    """What a file of weights says of itself, so that it is a model without its run.

    Args:
        spec: The text of the resolved spec.
        prior_of: The latent whose prior the weights are of.
    """
    about = {SPEC: spec, DIGEST: hashlib.sha256(spec.encode()).hexdigest()}
    return about if prior_of is None else about | {PRIOR_OF: prior_of}


def tensor_file(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors by name as the content of a safetensors file: equal ones give equal bytes."""
    data = dump_tensors({key: t.detach().contiguous() for key, t in tensors.items()})
    if not metadata:
        return data
    # The library writes metadata in an order of chance, so its header is written anew.
    length = int.from_bytes(data[:8], "little")
    tensors, numbers = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    about = dict(sorted(metadata.items()))
    digest = hashlib.sha256(_header(about, tensors))
    digest.update(numbers)
    text = _header(about | {CONTENT: digest.hexdigest()}, tensors)
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return b"".join((len(text).to_bytes(8, "little"), text, numbers))


def read_metadata(path: Path) -> dict[str, str]:
    """What a file of weights says of itself. Raises OSError, or ValueError where it is no such file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, path.stat().st_size)))
    about = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(about, dict):
        raise ValueError("its header has no metadata")
    return about


def content_is_whole(path: Path) -> bool:
    """Whether a file of weights holds what was written; yes where it does not say. Raises OSError or ValueError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, path.stat().st_size)))
        about = header.pop("__metadata__", {})
        noted = about.pop(CONTENT, None)
        digest = hashlib.sha256(_header(about, header))
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return noted in (None, digest.hexdigest())


def _header(metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> bytes:
    """The JSON text at the beginning of a safetensors file."""
    return json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":")).encode()


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read_manifest(path: Path, step: int) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """The state and the files that a manifest speaks of."""
    try:
        manifest = read_json(path / MANIFEST)
    except FileNotFoundError as error:
        if path.is_dir():
            raise CheckpointError(f"{path} has no {MANIFEST}, so it is not whole{_way_out(path)}") from error
        raise CheckpointError(f"there is no complete checkpoint of step {step} in {path.parent}") from error
    except DiskError as error:
        raise CheckpointError(f"{error}{_way_out(path)}") from error
    if manifest.get("format") not in (FORMAT, UNSEALED):
        raise CheckpointError(f"{path / MANIFEST} is not a manifest of format {FORMAT} or {UNSEALED}{_way_out(path)}")
    state, files = manifest.get("state"), manifest.get("files")
    if manifest.get("complete") is not True or manifest.get("step") != step:
        raise CheckpointError(f"{path / MANIFEST} does not say that step {step} is complete{_way_out(path)}")
    if (
        not isinstance(state, dict)
        or not isinstance(files, dict)
        or not all(isinstance(f, dict) for f in files.values())
    ):
        raise CheckpointError(f"{path / MANIFEST} lacks `state` or `files`{_way_out(path)}")
    sealed = manifest["format"] == FORMAT or SEAL in manifest
    if sealed and (manifest["format"] == UNSEALED or manifest != _sealed(manifest)):
        raise CheckpointError(f"{path / MANIFEST} is damaged: its content is not what its SHA-256 says{_way_out(path)}")
    return state, files


def _sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the digest of all that it holds."""
    content = {key: value for key, value in manifest.items() if key != SEAL}
    return {SEAL: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(), **content}


def _mismatch(file: Path, key: str, expected: Any, actual: Any) -> str:
    if actual is None:
        return f"{file} belongs to another model: it has no `{key}`, which this model has"
    if expected is None:
        return f"{file} belongs to another model: its `{key}` is not in this one"
    there, here = (f"{list(shape)} {dtype}" for shape, dtype in (actual, expected))
    return f"{file} belongs to another model: `{key}` is {there} there and {here} here"


def _way_out(path: Path) -> str:
    return f"; remove {path} to go on from the checkpoint before it"
