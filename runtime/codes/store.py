"""Codes on the disk: one row per image in one memory-mapped matrix, and digests that say what they are of.

A folder with `codes.npy` `(images, codes per image)`, in which the levels stand side by side, flattened, in order of
generation, and `manifest.json`, which names them and says of which autoencoder and images they are. It is written under
a temporary name and renamed when it is whole. A prior reads no more of it than it trains on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hvdsl.runtime.codes.levels import CodesError, Level
from hvdsl.runtime.ground.disk import DiskError, read_array, read_json, remove_folder, sync, write_json
from hvdsl.runtime.latents.conditions import NONE
from hvdsl.runtime.training.batches import PixelSource
from hvdsl.runtime.training.folder.weights import model_tensors

PROBES = 64
"""Images whose pixels enter the digest of a data set, evenly spread over it."""


def autoencoder_digest(model: nn.Module, structure: str) -> str:
    """SHA-256 of a model's tensors (names, types, shapes, bytes) and of the text that says what is computed of them."""
    digest = hashlib.sha256(structure.encode())
    for name, tensor in sorted(model_tensors(model).items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class LabelledImages(PixelSource, Protocol):
    """Images that may have classes."""

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None: ...


class StampedImages(LabelledImages, Protocol):
    """Images that have fields beside them."""

    def stamp(self, field: str) -> bytes: ...


def data_digest(images: LabelledImages, *, labelled: bool = False, fields: Sequence[str] = ()) -> str:
    """SHA-256 of the number of images and of the pixels of up to 64 of them: cheap, and blind to where files lie.

    Args:
        labelled: The classes of all images are part of the data.
        fields: So are their values of these fields.
    """
    count = len(images)
    digest = hashlib.sha256(str(count).encode())
    for index in np.unique(np.linspace(0, max(0, count - 1), min(PROBES, count)).astype(int)).tolist():
        pixels = images.batch([index], 0)
        if pixels.dtype == np.uint8:  # digests are of 16 bits, however few there are
            pixels = pixels.astype(np.uint16)
        digest.update(f"\0{index} {pixels.shape}\0".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
    labels = images.labels(range(count)) if labelled else None
    if labels is not None:
        digest.update(b"\0labels\0" + labels.tobytes())
    for name in sorted(fields):
        digest.update(f"\0{name}\0".encode() + cast("StampedImages", images).stamp(name))
    return digest.hexdigest()


FORMAT = 1
MATRIX, MANIFEST = "codes.npy", "manifest.json"

Codes = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What codes are of: digests of the autoencoder, and of the images."""

    autoencoder: str
    data: str


@dataclass(frozen=True, slots=True)
class CodeStore:
    """The codes of a data set, on the disk."""

    folder: Path
    levels: tuple[Level, ...]
    identity: Identity
    matrix: Codes  # (images, codes per image), memory-mapped
    digest: str | None = None  # SHA-256 of the matrix's file; version 0.1 wrote none
    fields: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # (images, …) by name, memory-mapped

    @classmethod
    def open(cls, folder: Path) -> CodeStore:
        """A store that is there.

        Raises:
            CodesError: There is none, or it is damaged.
        """
        try:
            manifest = read_json(folder / MANIFEST)
            matrix = read_array(folder / MATRIX)
        except FileNotFoundError as error:
            raise CodesError(f"there are no codes in {folder}") from error
        except DiskError as error:
            raise _damaged(folder, error.reason) from error
        levels, identity = _read_manifest(folder, manifest)
        size = sum(level.size for level in levels)
        if matrix.ndim != 2 or matrix.dtype != code_type(levels) or matrix.shape != (manifest.get("images"), size):
            raise _damaged(folder, f"{MATRIX} holds {matrix.dtype} of shape {matrix.shape}, not what it should")
        fields = {name: _field(folder, name, len(matrix)) for name in manifest.get("fields", ())}
        return cls(folder, levels, identity, matrix, manifest.get("sha256"), fields)

    def check(self) -> None:
        """Read all codes once. Raises CodesError where they are not those that were written."""
        if self.digest is None:
            return
        with (self.folder / MATRIX).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.digest:
            raise _damaged(self.folder, f"the SHA-256 of {MATRIX} is not the manifest's")

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, names: Sequence[str]) -> CodeRows:
        """The codes of some levels, side by side.

        Raises:
            CodesError: One of them is not stored.
        """
        return CodeRows(self, names)


def holds(folder: Path, identity: Identity, levels: tuple[Level, ...], fields: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a folder has just these codes, and fields of these shapes beside them."""
    if not folder.exists():
        return False
    store = CodeStore.open(folder)
    shapes = {name: values.shape[1:] for name, values in store.fields.items()}
    return store.identity == identity and store.levels == levels and shapes == fields


class CodeRows:
    """What a prior trains on: a row `(codes of the levels, one after the other)` per image."""

    def __init__(self, store: CodeStore, names: Sequence[str]) -> None:
        known = {level.name: level for level in store.levels}
        missing = [name for name in names if name not in known]
        if missing:
            raise CodesError(
                f"{store.folder} has no codes of `{missing[0]}`; it holds {', '.join(known) or 'nothing'}: "
                "does the data have classes, and the autoencoder that level?"
            )
        self.levels = tuple(known[name] for name in names)
        places = columns(store.levels)
        self._columns = [places[name] for name in names]
        self._limits = np.concatenate([np.full(level.size, level.stored_numbers) for level in self.levels])
        without = [np.full(level.size, level.classes if level.optional else -1) for level in self.levels]
        self._without = np.concatenate(without)
        self._store = store

    @property
    def name(self) -> str:
        return str(self._store.folder)

    def __len__(self) -> int:
        return len(self._store)

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> NDArray[np.int64]:
        """Codes `(N, columns)`, -1 for no class; `epoch` and `step` change nothing.

        Raises:
            CodesError: A number is not a code: the file was damaged after it was written.
        """
        rows = self._store.matrix[list(indices)]
        codes = np.concatenate([rows[:, place] for place in self._columns], 1).astype(np.int64)
        if (codes >= self._limits).any():
            raise _damaged(self._store.folder, f"{MATRIX} holds numbers that are no codes")
        return np.where(codes == self._without, NONE, codes)

    def conditioned(
        self, indices: Sequence[int], fields: Sequence[str], epoch: int = 0, step: int = 0
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Codes as `batch` gives them, and numbers that are stored beside them, `(N, C)` or `(N, C, H, W)`.

        Raises:
            CodesError: One is not stored; or as `batch`.
        """
        missing = next((name for name in fields if name not in self._store.fields), None)
        if missing is not None:
            raise CodesError(f"{self.name} holds no `{missing}`: remove that folder, and the codes are extracted again")
        return self.batch(indices), {name: self._store.fields[name][list(indices)] for name in fields}


class Writing:
    """A store that is being made; `finish` makes it one. Several processes may write parts of it at once."""

    def __init__(
        self, folder: Path, levels: Sequence[Level], images: int, fields: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        self.folder, self.levels, self.images, self.fields = folder, tuple(levels), images, dict(fields or {})
        self._temporary = folder.with_name(f".{folder.name}.tmp")
        self._type = code_type(levels)
        self._width = sum(level.size for level in levels)

    def begin(self) -> None:
        """Make the empty matrix; what a stopped process left is removed. One process does this."""
        if self._temporary.exists():
            shutil.rmtree(self._temporary)
        self._temporary.mkdir(parents=True)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {MATRIX: (self._type.str, (self._width,))}
        shapes |= {field_file(name): ("<f4", shape) for name, shape in self.fields.items()}
        for name, (kind, shape) in shapes.items():
            with (self._temporary / name).open("wb") as file:
                header = {"descr": kind, "fortran_order": False, "shape": (self.images, *shape)}
                np.lib.format.write_array_header_1_0(file, header)

    def write(self, first: int, rows: Codes, fields: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """Rows and fields of images `first`, `first` + 1, …

        Ordinary writes and no memory map: a full disk is then an error that can be told, not a signal.
        """
        self._put(MATRIX, first, np.ascontiguousarray(rows, dtype=self._type))
        for name, values in (fields or {}).items():
            self._put(field_file(name), first, np.ascontiguousarray(values, dtype="<f4"))

    def _put(self, name: str, first: int, rows: NDArray[Any]) -> None:
        with (self._temporary / name).open("r+b") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            file.seek(first * rows[:1].nbytes, 1)
            file.write(rows.tobytes())

    def finish(self, identity: Identity) -> None:
        """Make the store whole, in place of an earlier one. One process does this, after all have written."""
        manifest = {
            "format": FORMAT,
            "images": self.images,
            "levels": [level.as_json() for level in self.levels],
            "identity": asdict(identity),
            "sha256": self._digest(),
        }
        if self.fields:
            manifest["fields"] = list(self.fields)
        write_json(self._temporary / MANIFEST, manifest, indent=1)
        for name in (MATRIX, *map(field_file, self.fields)):
            sync(self._temporary / name)
        if self.folder.exists():
            remove_folder(self.folder)
        self._temporary.rename(self.folder)
        sync(self.folder.parent)

    def _digest(self) -> str:
        with (self._temporary / MATRIX).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def discard(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._temporary, ignore_errors=True)


def field_file(name: str) -> str:
    """The file of a field."""
    return f"field.{name}.npy"


def _field(folder: Path, name: object, images: int) -> NDArray[np.float32]:
    try:
        values: NDArray[np.float32] = np.load(folder / field_file(str(name)), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder, str(error).splitlines()[0]) from error
    if values.dtype != np.float32 or len(values) != images:
        raise _damaged(folder, f"{field_file(str(name))} holds {values.dtype} of {len(values)} images")
    return values


def columns(levels: Sequence[Level]) -> dict[str, slice]:
    """Where each level stands in a row."""
    places, start = {}, 0
    for level in levels:
        places[level.name] = slice(start, start + level.size)
        start += level.size
    return places


def code_type(levels: Sequence[Level]) -> np.dtype[Any]:
    """The smallest unsigned type that holds every level's codes, little-endian."""
    return np.min_scalar_type(max(level.stored_numbers for level in levels) - 1).newbyteorder("<")


def _read_manifest(folder: Path, manifest: object) -> tuple[tuple[Level, ...], Identity]:
    if not isinstance(manifest, Mapping) or manifest.get("format") != FORMAT:
        raise _damaged(folder, f"{MANIFEST} is not of format {FORMAT}")
    try:
        levels = tuple(
            Level(
                str(raw["name"]),
                int(raw["classes"]),
                tuple(map(int, raw["grid"])),  # type: ignore[arg-type]  # checked below
                int(raw["depth"]),
                raw.get("optional") is True,
            )
            for raw in manifest["levels"]
        )
        identity = Identity(str(manifest["identity"]["autoencoder"]), str(manifest["identity"]["data"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"{MANIFEST} lacks levels or identity") from error
    if not levels or any(len(v.grid) not in (0, 2) or min(v.classes, v.depth, *v.grid) < 1 for v in levels):
        raise _damaged(folder, f"{MANIFEST} names levels that cannot be")
    return levels, identity


def _damaged(folder: Path, reason: str) -> CodesError:
    return CodesError(f"the codes in {folder} are damaged ({reason}): remove that folder, and they are extracted again")
