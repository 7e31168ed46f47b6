"""Images packed into larger files: tar shards of WebDataset, tables of `datasets`, LMDB files of the NVAE release."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import struct
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.errors import DataError, optional
from hvdsl.runtime.data.heads import check_sizes, size_of_head
from hvdsl.runtime.data.names import ALL, PARTS, TRAIN, about_images, is_hidden, part_in, part_of, places_of
from hvdsl.runtime.data.picture import StoredImage, UnreadableError, read_header, read_picture
from hvdsl.runtime.data.stored import SUFFIXES

_log = logging.getLogger(__name__)

TARS, TABLES = (".tar",), (".parquet", ".arrow")
_PICTURES = SUFFIXES - {".npy"}
_LARGEST = 8 << 30  # bytes of Parquet, which is held in memory
_MOST = 20_000_000  # members
_ARROW_FILE = b"ARROW1"  # how files begin, and streams do not
_LABEL = 32  # bytes of a `.cls` member
_HEAD = 1 << 18  # bytes of a member in which its size is looked for


class TarShards:
    """Pictures in uncompressed tar files, in the order in which they stand there.

    `K.cls` is the class of `K.png`; where there are none, the folders inside say classes, as those of a folder do.
    """

    labelled_by = "the `.cls` files or folders inside"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self.classes: tuple[str, ...] = ()
        names: list[str] = []
        places: list[tuple[int, int, int]] = []  # file, offset, size
        labels: dict[str, int] = {}
        keys: list[str] = []
        for number, path in enumerate(self._paths):
            for name, offset, size in _members(path):
                folder, _, base = name.rpartition("/")
                key, _, kind = base.partition(".")
                key = f"{number}/{folder}/{key}"
                if f".{kind.rpartition('.')[2].lower()}" in _PICTURES:
                    names.append(name)
                    keys.append(key)
                    places.append((number, offset, size))
                elif kind == "cls":
                    labels[key] = _number(path, name, _read(path, offset, min(size, _LABEL)))
                if len(names) > _MOST:
                    raise DataError(f"{path}: more than {_MOST:,} pictures")
        if not names:
            raise DataError(f"there are no pictures in {', '.join(map(str, paths[:3]))}")
        about = about_images(names)
        if any(about):
            _log.warning("%s: left out: %s masks or labels of other images", paths[0], f"{sum(about):,}")
        kept = [place for place, is_about in enumerate(about) if not is_about]
        self._names, self._places = [names[i] for i in kept], np.asarray(places, np.int64)[kept]
        self._labels: list[int | None] = [labels.get(keys[i]) for i in kept]

    def divided(self, part: str) -> dict[str, TarShards]:
        """The same pictures by part: all of them `part`, where that is known; else as the folders inside say."""
        places = places_of(self._names)
        classes = tuple(sorted({folder for _, folder in places if folder is not None}))
        if all(label is None for label in self._labels) and len(classes) > 1:
            self.classes = classes
            numbers = {name: number for number, name in enumerate(classes)}
            self._labels = [None if folder is None else numbers[folder] for _, folder in places]
        if part != ALL or {p for p, _ in places} == {ALL}:
            return {part: self}
        train = TRAIN if TRAIN not in {p for p, _ in places} else None  # what is in no part, where none is for training
        by_part: dict[str, list[int]] = {}
        for index, (p, _) in enumerate(places):
            if (meant := p if p != ALL else train) is not None:
                by_part.setdefault(meant, []).append(index)
        return {p: self._only(by_part[p]) for p in PARTS if p in by_part}

    def _only(self, indices: Sequence[int]) -> TarShards:
        some = copy.copy(self)
        some._names = [self._names[i] for i in indices]
        some._labels = [self._labels[i] for i in indices]
        some._places = self._places[indices]
        return some

    def __len__(self) -> int:
        return len(self._names)

    def image(self, index: int, epoch: int) -> StoredImage:
        number, offset, size = (int(n) for n in self._places[index])
        try:
            return read_picture(_read(self._paths[number], offset, size))
        except UnreadableError as error:
            raise DataError(f"{self.name(index)} cannot be read: {error}") from error

    def check(self, settings: Data) -> None:
        """Refuse, by the heads of up to 20,000 images evenly spread, what cannot fit the spec. Raises DataError."""
        check_sizes(self, settings, self._size)

    def _size(self, index: int) -> tuple[int, int] | None:
        number, offset, size = (int(n) for n in self._places[index])
        return size_of_head(_read(self._paths[number], offset, min(size, _HEAD)))

    def label(self, index: int) -> int | None:
        return self._labels[index]

    def name(self, index: int) -> str:
        return f"{self._names[index]} in {self._paths[int(self._places[index][0])].name}"


def _members(path: Path) -> Iterable[tuple[str, int, int]]:
    """Name, offset and size of each file in a tar file, none of which is unpacked."""
    try:
        length = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                steps = [step for step in member.name.split("/") if step not in ("", ".")]
                if not member.isreg() or any(is_hidden(step) for step in steps):
                    continue
                if member.issparse() or member.offset_data + member.size > length:
                    raise DataError(f"{path} is cut short, or damaged, at {member.name}")
                yield member.name, member.offset_data, member.size
        if any(_read(path, max(0, length - 512), 512)):  # tarfile itself takes any end for the end
            raise DataError(f"{path} is cut short: it does not end as a tar file does")
    except DataError:
        raise
    except Exception as error:  # of damaged files tarfile raises almost anything
        raise DataError(f"{path} cannot be read as an uncompressed tar file: {error}") from error


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), size, offset)


def _number(path: Path, name: str, text: bytes) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise DataError(f"{name} in {path} is no class: {text!r}; classes are whole numbers from 0") from error


class PictureTable:
    """Pictures in a column of Parquet or Arrow files, as bytes or as `{bytes, path}`; another has their classes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        arrow = optional("pyarrow", "parquet", f"reading {paths[0]}")
        large = sum(path.stat().st_size for path in paths if path.suffix.lower() == ".parquet")
        if large > _LARGEST:
            raise DataError(f"{paths[0].parent} holds {large:,} bytes of Parquet, all held in memory: save it as Arrow")
        try:
            table = arrow.concat_tables([_table(arrow, path) for path in paths])
        except DataError:
            raise
        except Exception as error:  # of damaged files pyarrow raises its own errors and OSError
            raise DataError(f"{paths[0]} cannot be read as a table: {error}") from error
        self._name = paths[0].name
        known = [*_image_columns(table.schema.metadata), "image", "img", "picture", "jpg", "png"]
        column = next((c for c in known if c in table.column_names), None)
        if column is None or len(table) == 0:
            raise DataError(f"{paths[0]} has no column `image`, or no rows: it has {', '.join(table.column_names)}")
        self._images: Any = table.column(column)
        label = next((c for c in ("label", "labels", "fine_label") if c in table.column_names), None)
        self.labelled_by = f"the column `{label or 'label'}`"
        self._labels: list[Any] | None = None if label is None else table.column(label).to_pylist()
        self.classes = _class_names(table.schema.metadata, label)
        words = {value for value in self._labels or () if isinstance(value, str)}
        self._words = {word: place for place, word in enumerate(sorted(words))}
        if words:
            self.classes = tuple(self._words)

    def __len__(self) -> int:
        return len(self._images)

    def check(self, settings: Data) -> None:
        """Refuse, by the heads of up to 20,000 images evenly spread, what cannot fit the spec. Raises DataError."""
        check_sizes(self, settings, lambda index: size_of_head(self._bytes(index)))

    def _bytes(self, index: int) -> bytes:
        value = self._images[index].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(f"{self.name(index)} holds no bytes of a picture: save the data with its images embedded")
        return data

    def image(self, index: int, epoch: int) -> StoredImage:
        try:
            return read_picture(self._bytes(index))
        except UnreadableError as error:
            raise DataError(f"{self.name(index)} cannot be read: {error}") from error

    def label(self, index: int) -> int | None:
        value = None if self._labels is None else self._labels[index]
        if isinstance(value, str):
            return self._words.get(value)
        if value is not None and not isinstance(value, int):
            raise DataError(f"{self.name(index)} is of class {value!r}: classes are whole numbers from 0")
        return value

    def name(self, index: int) -> str:
        return f"row {index} of {self._name}"

    def with_classes(self, classes: Sequence[str]) -> PictureTable:
        """Return the same pictures, their classes, where they are words, counted among others."""
        same = copy.copy(self)
        if self._words:
            same._words, same.classes = {word: place for place, word in enumerate(classes)}, tuple(classes)
        return same


def _table(arrow: Any, path: Path) -> Any:
    if path.suffix.lower() == ".parquet":
        return optional("pyarrow.parquet", "parquet", f"reading {path}").read_table(path)
    with path.open("rb") as file:
        is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE  # `datasets` writes streams, others files
    with arrow.memory_map(str(path)) as source:
        return (arrow.ipc.open_file if is_file else arrow.ipc.open_stream)(source).read_all()


def _image_columns(metadata: dict[bytes, bytes] | None) -> list[str]:
    """The columns of pictures, as `datasets` notes them in a table's metadata."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return [str(name) for name, feature in features.items() if feature.get("_type") == "Image"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> tuple[str, ...]:
    """The names of the classes, as `datasets` notes them in a table's metadata."""
    try:
        noted = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        return tuple(str(name) for name in noted["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def read_packed(place: Path) -> dict[str, TarShards | PictureTable] | None:
    """Return the parts of a place with tar files or tables, by the names of files and folders; None if there are none.

    Raises:
        DataError: they are damaged, hold no pictures, or need a package that is not installed.
    """
    for suffixes, kind in ((TARS, TarShards), (TABLES, PictureTable)):
        files = [place] if place.is_file() and place.suffix.lower() in suffixes else []
        if place.is_dir():
            inside = (
                p for p in place.rglob("*") if p.suffix.lower() in suffixes and p.is_file() and not is_hidden(p.name)
            )
            files = sorted(p for p in inside if not p.name.startswith("cache-"))
        if files:
            parts: dict[str, list[Path]] = {}
            for file in files:
                parts.setdefault(_part(place, file), []).append(file)
            if kind is PictureTable:
                _refuse_several(place, parts)
            opened = {part: kind(paths) for part, paths in parts.items()}
            first = opened.get(TRAIN, opened.get(ALL))
            if isinstance(first, PictureTable):
                tables = {part: table for part, table in opened.items() if isinstance(table, PictureTable)}
                return {part: table.with_classes(first.classes) for part, table in tables.items()}
            if len(opened) == 1 and isinstance(only := next(iter(opened.values())), TarShards):
                return dict(only.divided(next(iter(opened))))
            return opened
    return None


def _refuse_several(place: Path, parts: Mapping[str, Sequence[Path]]) -> None:
    """Refuse tables of one part in several folders: they are data sets of their own, as configurations on a hub.

    Raises:
        DataError: it names the folders.
    """
    for part, files in parts.items():
        folders = sorted({str(file.parent.relative_to(place)) for file in files} if place.is_dir() else ())
        if len(folders) > 1:
            raise DataError(
                f"{place} holds {'' if part == ALL else f'{part} '}tables in several folders, "
                f"{', '.join(folders[:8])}: give one of them (on a hub, behind a colon: `hf://OWNER/NAME:FOLDER`)"
            )


def _part(place: Path, file: Path) -> str:
    folders = file.relative_to(place).parts[:-1] if place.is_dir() else ()
    return part_in(file.stem) or next((part for folder in folders if (part := part_of(folder))), None) or ALL


_LMDB_MAGIC = 0xBEEFC0DE
_LMDB_META = struct.Struct("<II")  # magic, version, after a page's header of 16 bytes
_LMDB_LAST_PAGE = 16 + 8 + 8 + 8 + 2 * 48  # of a meta page: header, magic, address, size of the map, two tables
# How encoded pictures begin whose first bytes are unlikely to be pixels.
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x4f\xff\x51")


class Lmdb:
    """Images of one LMDB environment, under the keys `0`, `1`, ….

    A value that begins as a picture file does is one; any other is a square RGB image, `(side, side, 3)` bytes whose
    side its length gives. How many there are is asked of the file.
    """

    labelled_by = "LMDB files, which hold no classes"

    def __init__(self, path: Path) -> None:
        lmdb = optional("lmdb", "lmdb", f"reading {path}")
        _check_lmdb(path / "data.mdb" if path.is_dir() else path)
        try:
            self._environment = _environment(lmdb, path)
            self._count = int(self._environment.lmdb.stat()["entries"])
        except lmdb.Error as error:
            raise DataError(f"{path} cannot be read as an LMDB file: {error}") from error
        self._path, self._error = path, lmdb.Error
        if self._count == 0:
            raise DataError(f"{path} holds no images")

    def __len__(self) -> int:
        return self._count

    def image(self, index: int, epoch: int) -> StoredImage:
        value = self._value(index)
        if is_encoded(value):
            try:
                return read_picture(value)
            except UnreadableError as error:
                raise DataError(f"image {index} of {self._path} cannot be decoded: {error}") from error
        side = math.isqrt(len(value) // 3)
        if side == 0 or 3 * side * side != len(value):
            raise DataError(
                f"image {index} of {self._path} is no picture file, and its {len(value):,} bytes are no square of RGB"
            )
        return StoredImage(np.frombuffer(value, np.uint8).reshape(side, side, 3))

    def _value(self, index: int) -> bytes:
        try:
            with self._environment.lmdb.begin() as transaction:
                value = transaction.get(str(index).encode())
        except self._error as error:
            raise DataError(f"{self._path} is damaged at image {index}: {error}") from error
        if value is None:
            raise DataError(f"{self._path} has no image {index} of {self._count}: its keys should count from 0")
        return bytes(value)

    def check(self, settings: Data) -> None:
        """Refuse, by the heads of up to 20,000 images evenly spread, what cannot fit the spec.

        Raises:
            DataError: it names the first image.
        """
        check_sizes(self, settings, self._size)

    def _size(self, index: int) -> tuple[int, int]:
        value = self._value(index)
        if not is_encoded(value):
            side = math.isqrt(len(value) // 3)
            return side, side
        try:
            header = read_header(value)
        except UnreadableError as error:
            raise DataError(f"image {index} of {self._path} cannot be decoded: {error}") from error
        return header.height, header.width

    def label(self, index: int) -> int | None:
        return None

    def name(self, index: int) -> str:
        return f"image {index} of {self._path}"


class _Environment:
    """An LMDB environment: a process may open each file once, so whoever reads it at the same time shares it."""

    def __init__(self, lmdb: Any) -> None:
        self.lmdb = lmdb


_open_environments: WeakValueDictionary[tuple[int, int], _Environment] = WeakValueDictionary()  # by device and inode


def _environment(lmdb: Any, path: Path) -> _Environment:
    status = (path / "data.mdb" if path.is_dir() else path).stat()
    opened = _open_environments.get((status.st_dev, status.st_ino))
    if opened is None:
        opened = _Environment(
            lmdb.open(str(path), readonly=True, lock=False, readahead=False, subdir=path.is_dir(), max_readers=1)
        )
        _open_environments[status.st_dev, status.st_ino] = opened
    return opened


def is_encoded(value: bytes) -> bool:
    """Whether bytes begin as a picture file does, whatever their length."""
    if value[:4] == b"RIFF":
        return value[8:12] == b"WEBP"
    if value[:2] == b"BM":  # two bytes that pixels may have, too: the header repeats the length
        return len(value) > 14 and struct.unpack_from("<I", value, 2)[0] == len(value)
    if value[:1] == b"P" and value[1:2] in b"123456":
        return value[2:3].isspace()
    return value[4:12] in (b"ftypavif", b"ftypavis", b"jP  \r\n\x87\n") or value.startswith(_PICTURE_STARTS)


def _check_lmdb(file: Path) -> None:
    """Refuse a file that is shorter than its own head says: reading behind its end would end the process.

    Raises:
        DataError: it is cut short, or no LMDB file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(1 << 17)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(head) < _LMDB_LAST_PAGE + 8 or _LMDB_META.unpack_from(head, 16)[0] != _LMDB_MAGIC:
        raise DataError(f"{file} cannot be read as an LMDB file: it does not begin as one")
    page = struct.unpack_from("<I", head, 16 + 24)[0]
    if page < 512 or page > 1 << 16 or page & (page - 1) or len(head) < page + _LMDB_LAST_PAGE + 8:
        raise DataError(f"{file} cannot be read as an LMDB file: its head is damaged")
    last = max(struct.unpack_from("<Q", head, start + _LMDB_LAST_PAGE)[0] for start in (0, page))
    if size < (last + 1) * page:
        raise DataError(
            f"{file} is cut short: it has {size:,} bytes, its head says {(last + 1) * page:,}; copy it again"
        )
