"""Is a run whole? Files of checkpoints against the digests of their manifests, the rest as far as it has a form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from rich.console import Console

from hvdsl.errors import HvdslError
from hvdsl.grammar import read_text
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.ground.disk import read_json
from hvdsl.runtime.training.folder.checkpoint import DIGEST, STEP, WEIGHTS, Checkpoint, CheckpointStore, read_metadata
from hvdsl.runtime.training.folder.logs import CURRENT, ENVIRONMENT, HISTORY, VERSIONS, History, metrics_records
from hvdsl.runtime.training.folder.run import Run
from hvdsl.workflows.calls import Show, showing
from hvdsl.workflows.overview import prior_runs
from hvdsl.workflows.runs import open_run

CHUNK = 1 << 22  # bytes of a file that are read at a time


@dataclass(frozen=True, slots=True)
class Check:
    """One file or checkpoint.

    Attributes:
        path: Below the run folder.
        good: Whether it is what it should be.
        about: What it holds, or what is wrong with it.
        step: Of a checkpoint.
        files: Of a checkpoint, how many it has.
        bytes: Of all of it.
    """

    path: str
    good: bool
    about: str
    step: int | None = None
    files: int | None = None
    bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For `verify --json`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked of a run, checkpoints first, the oldest before the newest.

    Attributes:
        newest: The step of the newest checkpoint; None where there is none.
        newest_good: The same of those that are whole.
    """

    run: Path
    checks: tuple[Check, ...]
    newest: int | None
    newest_good: int | None

    @property
    def good(self) -> bool:
        """Whether everything is what it should be."""
        return all(check.good for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """For `verify --json`."""
        return {
            "run": str(self.run),
            "ok": self.good,
            "newest": self.newest,
            "newest_good": self.newest_good,
            "checks": [check.as_json() for check in self.checks],
        }


def verify(folder: Path, console: Console | None = None) -> list[Verification]:
    """Check a run, and the runs of its priors; show on `console` how far it is.

    Raises:
        HvdslError: It is no run folder.
    """
    runs = [open_run(folder)]
    runs += [Run(path) for path in prior_runs(folder)]
    with showing("bytes", console) as show:
        return [_verified(run, show) for run in runs]


def _verified(run: Run, show: Show) -> Verification:
    store, digests = CheckpointStore(run.folder / "checkpoints"), _spec_digests(run.folder)
    steps = store.numbers()
    checks = [_checkpoint(store, step, digests, show) for step in steps]
    good = [step for step, check in zip(steps, checks, strict=True) if check.good]
    checks += _files(run)
    return Verification(run.folder, tuple(checks), max(steps, default=None), max(good, default=None))


def _checkpoint(store: CheckpointStore, step: int, digests: set[str], show: Show) -> Check:
    path = f"checkpoints/{step}"
    try:
        checkpoint = store.open(step)
    except HvdslError as error:
        return Check(path, False, str(error), step)
    total = sum(size for size in (entry.get("bytes") for entry in checkpoint.files.values()) if type(size) is int)
    done = 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        show(done, total, path)

    for name, entry in checkpoint.files.items():
        wrong = _wrong_file(checkpoint, name, entry, read) or _wrong_spec(checkpoint, name, digests)
        if wrong is not None:
            return Check(path, False, f"{name}: {wrong}", step, len(checkpoint.files), total)
    return Check(path, True, "every file has its size and SHA-256", step, len(checkpoint.files), total)


def _wrong_file(checkpoint: Checkpoint, name: str, entry: Any, read: Callable[[int], None]) -> str | None:
    file = checkpoint.path / name
    if Path(name).name != name:
        return "is no name of a file within the checkpoint"
    if not file.is_file():
        return "is missing"
    try:
        size = file.stat().st_size
        if size != entry.get("bytes"):
            return f"has {size:,} bytes where the manifest says {entry.get('bytes')}"
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                read(len(chunk))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if digest.hexdigest() == entry.get("sha256") else "is damaged: its SHA-256 is not the manifest's"


def _wrong_spec(checkpoint: Checkpoint, name: str, digests: set[str]) -> str | None:
    """What a file of weights says of itself against the run that it is in. Older files say nothing."""
    if name.removesuffix(".safetensors") not in WEIGHTS:
        return None
    try:
        metadata = read_metadata(checkpoint.path / name)
    except (OSError, ValueError, RecursionError) as error:
        return f"is not a safetensors file ({error})"
    if DIGEST in metadata and digests and metadata[DIGEST] not in digests:
        return f"is of another spec than {CURRENT}"
    if STEP in metadata and metadata[STEP] != str(checkpoint.step):
        return f"is of step {metadata[STEP][:20]}"
    return None


def _spec_digests(folder: Path) -> set[str]:
    """Of the specs that the run had at each start."""
    paths = [folder / CURRENT, *sorted((folder / VERSIONS).glob("*.hv"))]
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def _files(run: Run) -> Iterator[Check]:
    for name in (ENVIRONMENT, "graph.json"):
        if (run.folder / name).exists():
            yield _checked(name, partial(_json, run.folder / name))
    yield _checked(CURRENT, lambda: _spec(run))
    if (run.folder / HISTORY).exists():
        yield _checked(HISTORY, lambda: _counted(len(History(run.folder).entries()), "start"))
    if run.metrics_path.exists():
        yield _checked(run.metrics_path.name, lambda: _log(run.metrics_path))
    for path in sorted((run.folder / "codes").glob("*/manifest.json")):
        yield _checked(f"codes/{path.parent.name}", partial(_codes, path.parent))
    for path in sorted(run.pictures.glob("*.png")) if run.pictures.is_dir() else []:
        yield _checked(f"pictures/{path.name}", partial(_picture, path))


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except (HvdslError, FileNotFoundError) as error:
        return Check(name, False, "is missing" if isinstance(error, FileNotFoundError) else str(error))


def _json(path: Path) -> str:
    return _counted(len(read_json(path)), "key")


def _spec(run: Run) -> str:
    text = run.spec()
    try:
        read_text(Source(CURRENT, text))
    except SpecError as error:
        raise HvdslError(f"does not parse: {error.diagnostics[0].message}") from error
    return _counted(len(text.splitlines()), "line")


def _codes(folder: Path) -> str:
    store = CodeStore.open(folder)
    store.check()
    return f"the codes of {_counted(len(store), 'image')}"


def _log(path: Path) -> str:
    records = [record is not None for record in metrics_records(path)]
    lost = records.count(False)
    if lost > 1 or (lost == 1 and records[-1]):  # a process that was killed may leave half a last line
        raise HvdslError(f"{_counted(lost, 'line')} of {len(records):,} are no records")
    return _counted(len(records) - lost, "record")


def _picture(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            picture.verify()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise HvdslError(f"is no picture that can be read ({error})") from error
    return f"{width}x{height} pixels"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
