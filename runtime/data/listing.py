"""Which files are the data: one record per file, and the sentence that says what was taken and what was not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.names import (
    ALL,
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    about_images,
    is_hidden,
    is_short,
    is_wrapper,
    part_in,
    part_of,
    places_of,
)
from hvdsl.runtime.data.picture import ImageHeader, UnreadableError
from hvdsl.runtime.data.stored import SUFFIXES, header_of

# Pictures and arrays in forms that are not read: counted by name, where other files are only counted.
_OTHER_PICTURES = frozenset(
    ".heic .heif .cr2 .cr3 .nef .arw .dng .raw .exr .hdr .svg .psd .xcf .eps .pdf .dcm .nii .mp4 .avi .mov .ico .dds "  # noqa: SIM905
    ".jxl .fits .h5 .hdf5 .tfrecord .tfrecords .pkl .pickle .pt .pth".split()
)
ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_LISTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".lst", ".list")  # which files may be of which part
_DEEPEST, _MOST = 32, 20_000_000  # folders inside each other; files
_THREADS, _CHUNK = 16, 256  # that read heads, so many files at a time
_NAMED = 4  # classes that the sentence names


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of the data, or one that was left out.

    Attributes:
        name: Its path in the folder of the data, with `/`.
        part: `train`, `validation`, `test`, or `all` where nothing says.
        folder: The folder that says its class.
        header: Size, mode and channels, as its head says them.
        values: Least and largest stored value, where the file was decoded.
        left_out: Why it is not taken; empty for what is.
        kind: What the reason is counted under.
        linked: Whether the file or a folder on its path is a link.
    """

    path: Path
    name: str
    part: str = ALL
    folder: str | None = None
    header: ImageHeader | None = None
    values: tuple[float, float] | None = None
    left_out: str = ""
    kind: str = ""
    linked: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file under a place, taken or left out."""

    root: Path
    records: tuple[FileRecord, ...]

    @property
    def taken(self) -> tuple[FileRecord, ...]:
        return tuple(record for record in self.records if not record.left_out)

    def of(self, part: str) -> tuple[FileRecord, ...]:
        return tuple(record for record in self.records if record.part == part and not record.left_out)

    @property
    def parts(self) -> tuple[str, ...]:
        held = {record.part for record in self.taken}
        return tuple(part for part in (*PARTS, ALL) if part in held)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the folders of the training images that stand for classes."""
        first = TRAIN if TRAIN in self.parts else ALL
        return tuple(sorted({r.folder for r in self.taken if r.folder is not None and r.part == first}))

    def sentence(self) -> str:
        """`22 images in 2 folders: cat, dog (train 12, test 10); left out: 5 .heic (not read), 2 hidden`."""
        taken = self.taken
        text = f"{len(taken):,} image{'' if len(taken) == 1 else 's'}"
        if self.classes and not (len(self.classes) == 1 and is_wrapper(self.classes[0])):
            text += f" in {len(self.classes)} {'folder' if len(self.classes) == 1 else 'folders'}"
            text += f": {', '.join(self.classes)}" if len(self.classes) <= _NAMED else ""
        counts = Counter(record.part for record in taken)
        if self.parts != (ALL,):
            text += " (" + ", ".join(f"{part} {counts[part]:,}" for part in self.parts) + ")"
        return "; ".join([text, *([self.left] if self.left else []), *self._doubts()])

    @property
    def left(self) -> str:
        """`left out: 5 .heic (not read), 2 hidden`; empty where all files are taken."""
        left = Counter(record.kind for record in self.records if record.left_out)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left.items()))
        return f"left out: {counts}" if left else ""

    def _doubts(self) -> list[str]:
        """What may be meant otherwise: a class that is called as a part is, files called *test* among others."""
        doubtful = [name for name in self.classes if part_of(name) is not None or is_short(name)]
        doubts = [f"`{name}` is taken for a class" for name in doubtful if len(self.classes) > 1]
        called = (r for r in self.taken if r.part in (ALL, TRAIN) and TEST in r.path.stem.lower())
        tests = [record for record in called if part_in(record.path.stem) == TEST]
        if tests and len(tests) < len(self.taken):
            many = f"{len(tests):,} names say *test*" if len(tests) > 1 else "1 name says *test*"
            doubts.append(f"{many}, as {tests[0].name}: what is not for training belongs into a folder `test`")
        lists = [r.name for r in self.records if r.path.suffix.lower() in _LISTS and part_in(r.path.stem) == TEST]
        if self.parts == (ALL,) and lists:
            doubts.append(
                f"{lists[0]} may say which images are for testing, and is not read: put them into a folder `test`"
            )
        return [*doubts, *self._joined()]

    def _joined(self) -> Iterable[str]:
        """Parts that are made of folders of several names, as `train_HR` and `train_LR`."""
        folders: dict[str, set[str]] = {}
        for part, place in {(record.part, record.name.rpartition("/")[0]) for record in self.taken}:
            step = next((step for step in place.split("/") if part_in(step) == part), None)
            if step is not None:
                folders.setdefault(part, set()).add(step)
        for part, names in sorted(folders.items()):
            if len(names) > 1:
                more = ", …" if len(names) > _NAMED else ""
                yield f"{part} is of several folders: {', '.join(sorted(names)[:_NAMED])}{more}"


def list_files(root: Path) -> Listing:
    """Return every file under a folder, in the order of their names, headers read.

    Links are followed, each place once for each part. Hidden files and folders are left out. The first folder of a path
    whose name means a part says the part of what is in it; the first other one (unless it only wraps, as `images`) says
    its class.

    Raises:
        DataError: nothing is there to read.
    """
    records = _placed(_without_masks(_without_arrays(list(_walk(root)))))
    records = _resolved(_without_repeats(root, records))
    return Listing(root, tuple(_with_headers(records)))


def list_file(path: Path) -> Listing:
    """Return the listing of a single picture file."""
    return Listing(path.parent, tuple(_with_headers([FileRecord(path, path.name)])))


def _walk(root: Path) -> Iterable[FileRecord]:
    """Every file and hidden folder under `root`; loops of links end where they come back to a folder they are in."""
    stack: list[tuple[Path, str, frozenset[tuple[int, int]], bool]] = [(root, "", frozenset(), False)]
    count = 0
    while stack:
        folder, prefix, above, linked = stack.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield FileRecord(folder, prefix, left_out=error.strerror or str(error), kind="unreadable folders")
            continue
        here = above | {(status.st_dev, status.st_ino)}
        for entry in entries:
            path, name = folder / entry.name, f"{prefix}{entry.name}"
            count += 1
            if count > _MOST:
                raise DataError(f"{root} holds more than {_MOST:,} files")
            if is_hidden(entry.name):
                yield FileRecord(path, name, left_out="a hidden name", kind="hidden")
            elif _is_folder(entry):
                inside = path.stat()
                if (inside.st_dev, inside.st_ino) in here:
                    yield FileRecord(path, name, left_out="a link to a folder that it is in", kind="links in a circle")
                elif len(here) > _DEEPEST:
                    yield FileRecord(path, name, left_out="nested too deep", kind="folders nested too deep")
                else:
                    stack.append((path, f"{name}/", here, linked or entry.is_symlink()))
            else:
                yield _record(path, name, linked or entry.is_symlink())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into itself
        return False


def _record(path: Path, name: str, linked: bool) -> FileRecord:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        if path.is_file():
            return FileRecord(path, name, linked=linked)
        reason, kind = ("a link to nothing", "broken links") if path.is_symlink() else ("no file", "no files")
        return FileRecord(path, name, left_out=reason, kind=kind)
    if suffix in ARCHIVES:
        return FileRecord(path, name, left_out="packed: it is not looked into", kind=f"{suffix} (packed)")
    if suffix in _OTHER_PICTURES:
        return FileRecord(path, name, left_out=f"{suffix} is not read", kind=f"{suffix} (not read)")
    return FileRecord(path, name, left_out="no picture", kind="other files")


def _without_arrays(records: list[FileRecord]) -> list[FileRecord]:
    """Leave out `.npy` files beside pictures: they hold something about them."""
    arrays = [record.path.suffix.lower() == ".npy" and not record.left_out for record in records]
    if sum(arrays) == sum(not record.left_out for record in records):
        return records
    return [
        replace(record, left_out="an array beside pictures", kind=".npy beside pictures") if array else record
        for record, array in zip(records, arrays, strict=True)
    ]


def _without_masks(records: list[FileRecord]) -> list[FileRecord]:
    """Leave out what is about images and no data: `masks` beside `images` or `train`, `a_mask.png` beside `a.png`."""
    about = iter(about_images([record.name for record in records if not record.left_out]))
    return [
        replace(record, left_out="says something about an image beside it", kind="masks or labels of other images")
        if not record.left_out and next(about)
        else record
        for record in records
    ]


def _placed(records: Sequence[FileRecord]) -> list[FileRecord]:
    """Say part and class by the folders that files are in."""
    places = iter(places_of([record.name for record in records if not record.left_out]))
    placed = []
    for record in records:
        if not record.left_out:
            part, folder = next(places)
            record = replace(record, part=part, folder=folder)
        placed.append(record)
    return placed


def _without_repeats(root: Path, records: list[FileRecord]) -> list[FileRecord]:
    """Leave out what links reach again within a part; the file itself goes before the links to it."""
    if not any(record.linked for record in records):
        return records
    base = os.path.realpath(root)
    places = [os.path.realpath(record.path) if record.linked else f"{base}/{record.name}" for record in records]
    first: dict[tuple[str, str], int] = {}
    for number in sorted(range(len(records)), key=lambda n: (records[n].linked, records[n].name)):
        if not records[number].left_out:
            first.setdefault((records[number].part, places[number]), number)
    return [
        record
        if record.left_out or first[record.part, places[number]] == number
        else replace(record, left_out="a link to an image that is there already", kind="links to the same images")
        for number, record in enumerate(records)
    ]


def _resolved(records: list[FileRecord]) -> list[FileRecord]:
    """Say what files outside of the folders of parts are: training images, or none of the data."""
    parts = {record.part for record in records if not record.left_out}
    if ALL not in parts or parts == {ALL}:
        return records
    if TRAIN not in parts:
        return [replace(r, part=TRAIN) if r.part == ALL else r for r in records]
    if parts == {TRAIN, ALL} and _is_a_class(records):
        return [replace(r, part=ALL, folder=r.name.split("/")[0] if "/" in r.name else None) for r in records]
    return [
        replace(r, left_out="outside of the folders of the parts", kind="outside of train, validation and test")
        if r.part == ALL and not r.left_out
        else r
        for r in records
    ]


def _is_a_class(records: Sequence[FileRecord]) -> bool:
    """Whether `train` is a class beside others: no parts, several other folders with images, and no classes inside."""
    taken = [record for record in records if not record.left_out]
    others = {record.name.split("/")[0] for record in taken if record.part == ALL and "/" in record.name}
    return len(others) > 1 and all(record.folder is None for record in taken if record.part == TRAIN)


def _with_headers(records: Sequence[FileRecord]) -> list[FileRecord]:
    """Read the heads of all files that are taken, on threads."""

    def read(record: FileRecord) -> FileRecord:
        if record.left_out:
            return record
        try:
            return replace(record, header=header_of(record.path))
        except UnreadableError as error:
            return replace(record, left_out=str(error), kind=error.kind)

    chunks = [records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = pool.map(lambda chunk: [read(record) for record in chunk], chunks)
        return sorted((r for part in parts for r in part), key=lambda record: record.name.split("/"))


__all__ = ["ALL", "PARTS", "TEST", "TRAIN", "VALIDATION", "FileRecord", "Listing", "list_file", "list_files"]
