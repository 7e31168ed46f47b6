"""What else belongs to an image: conditions (`given`) and weights, from arrays, class folders, tables and folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.picture import UnreadableError
from hvdsl.runtime.data.stored import SUFFIXES, read_image

Value: TypeAlias = "NDArray[Any] | int | None"
"""(H, W, C) numbers that have places, (K,) numbers that have none, a class, or None: not known."""

_LARGEST_TABLE = 1 << 30  # bytes
_NAME_COLUMNS = ("file", "file_name", "filename", "name", "path", "image", "image_id", "id")
_MISSING = ("", "nan", "na", "null", "none")


class Field(Protocol):
    """One condition of every image.

    Attributes:
        classes: Names of the classes, where values are classes.
    """

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    def value(self, index: int, name: str) -> Value: ...


class Conditioned(Protocol):
    """Stored images, as far as conditions need them."""

    def label(self, index: int) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Examples:
    """Everything that belongs to N images.

    Attributes:
        pixels: Raw values (N, C, H, W).
        given: Conditions by name: classes (N,) as int64, −1 where there is none; other numbers as float32, (N, K) or,
            where they have places, (N, C, H, W), 0 where there are none.
        present: Which images have a value of each condition, (N,) booleans.
        weight: How much each pixel counts, (N, 1, H, W) as float32; None counts all alike.
        names: The images' names.
    """

    pixels: NDArray[Any]
    given: Mapping[str, NDArray[Any]]
    present: Mapping[str, NDArray[np.bool_]]
    weight: NDArray[np.float32] | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldSource:
    """Where a condition comes from.

    Attributes:
        place: None: an array of that name beside the images, or `label`, their classes. A folder: images of the same
            names. A table (`.csv`, `.tsv`, `.jsonl`): one of its columns.
        column: Of the table; by default that of the condition's name.
        droppable: An image without a value is one whose condition is dropped; otherwise it is an error.
    """

    place: Path | None = None
    column: str | None = None
    droppable: bool = False


def open_field(name: str, source: FieldSource, images: Conditioned, size: tuple[int, int]) -> Field:
    """Open a condition of stored images.

    Args:
        size: Height and width of the images, by which arrays (N, C, H, W) are told from (N, H, W, C).

    Raises:
        DataError: there is no such array, folder, table or column.
    """
    if source.place is None:
        arrays: Mapping[str, NDArray[Any]] = getattr(images, "fields", {})
        if name in arrays:
            return ArrayField(name, arrays[name], size)
        if name == "label":
            classes: Sequence[str] | None = getattr(images, "classes", None)
            return ClassField(images, classes, droppable=source.droppable)
        held = ", ".join(arrays) or "none"
        raise DataError(f"there is no array `{name}` beside the images (there are: {held}): give its folder or table")
    if source.place.is_dir():
        return ImageField(name, source.place, droppable=source.droppable)
    columns, column = read_table(source.place), source.column or name
    if column not in columns:
        raise DataError(f"{source.place} has no column `{column}`: it has {', '.join(columns)}")
    return TableField(column, columns[column], droppable=source.droppable)


def stack(name: str, values: Sequence[Value]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Join the values of N images, and say which have one.

    Raises:
        DataError: some are classes and some are not, or their shapes differ.
    """
    present = np.asarray([value is not None for value in values], np.bool_)
    known = [value for value in values if value is not None]
    if all(isinstance(value, int) for value in known):
        return np.asarray([-1 if value is None else value for value in values], np.int64), present
    shapes = {np.shape(value) for value in known}
    if len(shapes) != 1:
        raise DataError(f"values of `{name}` have different shapes: {', '.join(map(str, sorted(shapes)))}")
    empty = np.zeros(shapes.pop(), np.float32)
    return np.stack([empty if value is None else np.asarray(value, np.float32) for value in values]), present


class ArrayField:
    """Rows of an array: whole numbers are classes, (N, K) vectors, (N, H, W[, C]) or (N, C, H, W) have places."""

    def __init__(self, name: str, array: NDArray[Any], size: tuple[int, int] | None = None) -> None:
        if array.dtype.kind not in "buif":
            raise DataError(f"the field `{name}` holds {array.dtype}: fields are numbers")
        self.classes: tuple[str, ...] | None = None
        self._name, self._array = name, array
        self._planar = (
            array.ndim == 4 and array.shape[1] < array.shape[3] and array.shape[2:] == (size or array.shape[2:])
        )

    def value(self, index: int, name: str) -> Value:
        row = np.asarray(self._array[index])
        if row.ndim == 0:
            return int(row) if row.dtype.kind in "bui" else row[None]
        if row.ndim == 2:
            return row[:, :, None]
        return row.transpose(1, 2, 0) if self._planar else row


class ClassField:
    """The class that the images themselves say: of their folder, or of the array `labels`."""

    def __init__(self, images: Conditioned, classes: Sequence[str] | None, *, droppable: bool = False) -> None:
        self.classes: tuple[str, ...] | None = None if classes is None else tuple(classes)
        self._images, self._droppable = images, droppable

    def value(self, index: int, name: str) -> Value:
        label = self._images.label(index)
        if label is None and not self._droppable:
            raise DataError(
                f"there is no `label` of {name}: move it into the folder of its class, or write "
                "`given label = … { drop = 0.1 }`, with which it may be absent"
            )
        return label


class ImageField:
    """A second folder with an image of the same name (whatever its suffix) for every image."""

    def __init__(self, name: str, root: Path, *, droppable: bool = False) -> None:
        if not root.is_dir():
            raise DataError(f"the field `{name}` is read from {root}, which is no folder")
        self.classes: tuple[str, ...] | None = None
        self._name, self._root, self._droppable = name, root, droppable

    def value(self, index: int, name: str) -> Value:
        stem = PurePosixPath(name).with_suffix("")
        folder = self._root / stem.parent
        path = next((p for s in sorted(SUFFIXES) if (p := folder / f"{stem.name}{s}").is_file()), None)
        if path is None:
            if self._droppable:
                return None
            raise DataError(
                f"the field `{self._name}` has no image for {name} in {self._root}: add it, or let the field be dropped"
            )
        try:
            return read_image(path).values
        except UnreadableError as error:
            raise DataError(f"{path} cannot be read: {error}") from error


class TableField:
    """One column of a table beside a folder: numbers, or words, which are classes in the order of the alphabet."""

    def __init__(self, name: str, table: Mapping[str, str], *, droppable: bool = False) -> None:
        self._name, self._droppable = name, droppable
        self._values = {key: text for key, text in table.items() if text.strip().lower() not in _MISSING}
        try:
            numbers = [float(text) for text in self._values.values()]
            whole = all(n.is_integer() for n in numbers) and all(n >= 0 for n in numbers)
            self.classes = None
        except ValueError:
            numbers, whole = [], False
            self.classes = tuple(sorted(set(self._values.values())))
        self._whole = whole
        self._places = {text: place for place, text in enumerate(self.classes or ())}

    classes: tuple[str, ...] | None

    def value(self, index: int, name: str) -> Value:
        text = next((self._values[key] for key in _keys(name) if key in self._values), None)
        if text is None:
            if self._droppable:
                return None
            raise DataError(f"the table has no value of `{self._name}` for {name}: add it, or let the field be dropped")
        if self.classes is not None:
            return self._places[text]
        return int(float(text)) if self._whole else np.asarray([float(text)], np.float32)


def _keys(name: str) -> tuple[str, ...]:
    """What a table may call a file: its path, its name, either without suffix."""
    path = PurePosixPath(name)
    return (name, path.name, str(path.with_suffix("")), path.stem)


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Return the columns of a CSV, TSV or JSON-lines table: column, then file name, then text.

    The column of file names is called `file`, `file_name`, `name`, `path`, `image` or `id`, or is the first.

    Raises:
        DataError: not readable, no rows, or two rows for one file.
    """
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise DataError(f"{path} is larger than {_LARGEST_TABLE:,} bytes: this is no table of images")
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(text) if path.suffix in (".jsonl", ".ndjson", ".json") else _csv_rows(text, path.suffix)
    except DataError:
        raise
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    key = next((c for c in _NAME_COLUMNS for have in rows[0] if have.lower() == c), next(iter(rows[0])))
    key = next(have for have in rows[0] if have.lower() == key.lower())
    columns: dict[str, dict[str, str]] = {column: {} for row in rows for column in row if column != key}
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        name = row.get(key, "")
        if name in seen:
            raise DataError(f"{path} has two rows for {name} (the second is row {number}): keep one")
        seen.add(name)
        for column, value in row.items():
            if column != key:
                columns[column][name] = value
    return columns


def _csv_rows(text: str, suffix: str) -> list[dict[str, str]]:
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if suffix == ".tsv" else ",", restkey="", restval="")
    rows = []
    for row in reader:
        if row.pop("", None):
            raise ValueError(f"line {reader.line_num} has more values than there are columns")
        rows.append({key.strip(): value.strip() for key, value in row.items()})
    return rows


def _json_rows(text: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")
        rows.append({str(key): "" if value is None else str(value) for key, value in row.items()})
    return rows
