"""Codes that come from a file and not from an autoencoder: what `data codes` names, as stores to train priors on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.compiler.settings import Data
from hvdsl.runtime.codes.extract import class_levels, together
from hvdsl.runtime.codes.files import DIGEST, SUFFIXES, read_code_arrays
from hvdsl.runtime.codes.levels import CodesError, Level, check_fit
from hvdsl.runtime.codes.store import CodeStore, Identity, Writing, holds
from hvdsl.runtime.data.dataset import holdout_split
from hvdsl.runtime.data.names import TEST, TRAIN, VALIDATION
from hvdsl.runtime.data.open import DEFAULT_HOLDOUT
from hvdsl.runtime.ground.disk import DiskError, read_array
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.latents import Condition

GIVEN = ".given"  # what `hvdsl encode` puts behind the names of conditions
_ROWS = 4096  # that are written at once


def levels_of(data: Data) -> tuple[Level, ...]:
    """The levels that `data codes` declares, in their order."""
    return tuple(Level(name, level.classes, level.grid, level.depth) for name, level in data.levels.items())


@dataclass(frozen=True, slots=True, eq=False)
class CodeFile:
    """The codes in a file, and what stands beside them.

    Attributes:
        levels: Those of codes, then those of classes.
        codes: `(N, …)` by level; -1 for no class.
        fields: Numbers `(N, C)` or `(N, C, H, W)`.
        origin: The digest of the autoencoder that made them, where the file says so; else empty.
        digest: SHA-256 of the file.
    """

    path: Path
    levels: tuple[Level, ...]
    codes: Mapping[str, NDArray[Any]]
    fields: Mapping[str, NDArray[np.float32]]
    origin: str
    digest: str

    def __len__(self) -> int:
        return len(self.codes[self.levels[0].name])

    def store(self, folder: Path, rows: NDArray[np.int64], part: str, world: World) -> CodeStore:
        """The codes of some `rows` as the store in `folder`, written if it is not there and theirs.

        Raises:
            CodesError: They cannot be written; nothing half-written stays.
        """
        digest = hashlib.sha256(f"{self.digest} {part} ".encode() + rows.tobytes()).hexdigest()
        identity, shapes = Identity(self.origin, digest), {n: v.shape[1:] for n, v in self.fields.items()}
        if not world.any(not holds(folder, identity, self.levels, shapes)):
            store = CodeStore.open(folder)
            store.check()
            return store
        writing = Writing(folder, self.levels, len(rows), shapes)

        def write() -> None:
            writing.begin()
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                columns = [self._stored(level, some).reshape(len(some), -1) for level in self.levels]
                writing.write(start, np.concatenate(columns, 1), {n: v[some] for n, v in self.fields.items()})
            writing.finish(identity)

        together(world, writing, write if world.leads else lambda: None)
        return CodeStore.open(folder)

    def _stored(self, level: Level, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        codes = self.codes[level.name][rows].astype(np.int64)
        return np.where(codes < 0, level.classes, codes) if level.optional else codes


def read_code_file(path: Path, levels: Sequence[Level], conditions: Sequence[Condition]) -> CodeFile:
    """The codes of `levels` in an `.npz`, `.safetensors` or, of one level alone, `.npy` file, and its conditions.

    Raises:
        CodesError: It cannot be read, or holds not what is said of it.
    """
    wanted = [name for c in conditions for name in (c.name, c.name + GIVEN)]
    if path.suffix == ".npy":
        held, about = {levels[0].name: _array(path)}, dict[str, object]()
        if len(levels) > 1 or conditions:
            more = [level.name for level in levels[1:]] + [c.name for c in conditions]
            raise CodesError(f"{path} is one array, and no codes of `{more[0]}`: write an .npz with an array for each")
    else:
        _, held, about = read_code_arrays(path, [*(level.name for level in levels), *wanted])
    check_fit(held, levels, str(path), "`levels` says")
    codes = {level.name: held[level.name] for level in levels}
    count, fields = len(codes[levels[0].name]), {}
    for condition in conditions:
        values = held.get(condition.name, held.get(condition.name + GIVEN))
        if values is None:
            raise CodesError(f"{path} has no array `{condition.name}`, which `data` declares beside the codes")
        if condition.classes is None:
            fields[condition.name] = _numbers(path, condition, values, count)
        else:
            codes[condition.name] = _classes(path, condition, values, count)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CodesError(f"{path} cannot be read ({error.strerror})") from error
    return CodeFile(path, (*levels, *class_levels(conditions)), codes, fields, str(about.get(DIGEST, "")), digest)


def code_parts(place: Path) -> dict[str, Path]:
    """The files of codes at a place by what they are for; of a single file `train` is all there is.

    Raises:
        CodesError: There are none.
    """
    if not place.is_dir():
        return {TRAIN: place}
    endings = (*SUFFIXES, ".npy")
    parts = {p.stem: p for p in sorted(place.iterdir()) if p.stem in (TRAIN, VALIDATION, TEST) and p.suffix in endings}
    if TRAIN not in parts:
        raise CodesError(f"{place} has no `train.npz`: name a file of codes, or a folder with train, validation, test")
    return parts


def held_out(count: int, data: Data) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images of a single file are for training, and which for validation."""
    return holdout_split(count, data.holdout or max(1, round(DEFAULT_HOLDOUT * count)), data.split_seed)


def _array(path: Path) -> NDArray[Any]:
    try:
        return read_array(path)
    except (DiskError, OSError) as error:
        raise CodesError(f"{path} cannot be read as codes ({error})") from error


def _classes(path: Path, condition: Condition, values: NDArray[Any], count: int) -> NDArray[Any]:
    least, classes = -1 if condition.droppable else 0, condition.classes or 0
    if values.dtype.kind not in "iu" or values.shape != (count,):
        found = f"{values.dtype} of shape {values.shape}"
        raise CodesError(f"`{condition.name}` in {path} is {found}; expected a whole number for each of {count} images")
    if count and not (int(values.min()) >= least and int(values.max()) < classes):
        more = ", -1 for none" if condition.droppable else ""
        raise CodesError(
            f"`{condition.name}` in {path} runs from {values.min()} to {values.max()}; `data` declares {classes} "
            f"classes, numbered from 0{more}"
        )
    return values


def _numbers(path: Path, condition: Condition, values: NDArray[Any], count: int) -> NDArray[np.float32]:
    numbers = np.asarray(values, np.float32)
    numbers = numbers[:, None] if numbers.ndim == 1 and condition.stored == (1,) else numbers
    if numbers.shape != (count, *condition.stored):
        raise CodesError(f"`{condition.name}` in {path} is {values.shape}; expected {(count, *condition.stored)}")
    if not condition.droppable and not np.isfinite(numbers).all():
        raise CodesError(f"`{condition.name}` in {path} lacks some values, which only a field with `drop` may")
    return numbers
