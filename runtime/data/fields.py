"""What else belongs to an image: fields (`given`) from arrays, class folders, tables and second folders."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.deep import read_deep
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.picture import UnreadableError
from hvdsl.runtime.data.stored import SUFFIXES, read_image
from hvdsl.runtime.data.tables import Column

Value: TypeAlias = "NDArray[Any] | int | None"
"""(H, W, C) numbers that have places, (K,) numbers that have none, a class, or None: not known."""


class Field(Protocol):
    """One field of every image.

    Attributes:
        place: What it is read from, for messages: `table.csv`, `the folder edges`.
        classes: Names of the classes, where values are classes that have names.
    """

    @property
    def place(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    def value(self, index: int, name: str) -> Value: ...

    def holds(self, index: int, name: str) -> bool:
        """Whether there is a value of an image, as far as can be said without reading images."""
        ...

    def stamp(self, index: int, name: str) -> bytes:
        """What tells a value from another, as far as can be said without reading images."""
        ...


class Labelled(Protocol):
    """Stored images, as far as their classes go.

    Attributes:
        labelled_by: What says their classes, for messages: `the array `labels``, `the folders of classes`.
    """

    @property
    def labelled_by(self) -> str: ...

    def label(self, index: int) -> int | None: ...


class ArrayField:
    """Rows of an array: whole numbers are classes, (N, K) vectors, (N, H, W[, C]) or (N, C, H, W) have places.

    Args:
        shape: (C, H, W) as declared, by which (N, C, H, W) is told from (N, H, W, C).
    """

    classes: tuple[str, ...] | None = None

    def __init__(self, name: str, array: NDArray[Any], shape: tuple[int, int, int]) -> None:
        if array.dtype.kind not in "buif":
            raise DataError(f"the field `{name}` holds {array.dtype}: fields are numbers")
        self.place = f"the array `{name}`"
        self._array = array
        self._planar = array.ndim == 4 and array.shape[1] == shape[0] and array.shape[3] != shape[0]
        self._planar |= array.shape[1:] == shape

    def value(self, index: int, name: str) -> Value:
        row = np.asarray(self._array[index])
        if row.ndim == 0:
            return int(row) if row.dtype.kind in "bui" else row[None]
        if row.ndim == 2:
            return row[:, :, None]
        return row.transpose(1, 2, 0) if row.ndim == 3 and self._planar else row

    def holds(self, index: int, name: str) -> bool:
        row = np.asarray(self._array[index])
        return row.ndim > 1 or row.dtype.kind != "f" or bool(np.isfinite(row).all())

    def stamp(self, index: int, name: str) -> bytes:
        return np.asarray(self._array[index]).tobytes()


class ClassField:
    """The class that the images themselves say: by their folders, an array, a file of labels or a column.

    Args:
        root: Where the images are, which may be the folder of a class.
    """

    def __init__(self, images: Labelled, classes: Sequence[str] | None, root: Path | None = None) -> None:
        self.classes: tuple[str, ...] | None = tuple(classes) if classes else None
        self._images, self._root = images, root
        named = ", ".join(self.classes or ())
        self.place = images.labelled_by + (f", which are {named}" if named else "")

    def value(self, index: int, name: str) -> int | None:
        label = self._images.label(index)
        if label is not None or self.classes is None:
            return label
        folder = PurePosixPath(_path(self._root, name)).parent.name
        return self.classes.index(folder) if folder in self.classes else None

    def holds(self, index: int, name: str) -> bool:
        return self.value(index, name) is not None

    def stamp(self, index: int, name: str) -> bytes:
        return repr(self.value(index, name)).encode()


class ImageField:
    """A second folder with an image of the same name, whatever its suffix, for every image.

    Folders on the way to an image are folders in it, too, as many as there are.

    Args:
        images: Where the images are.
    """

    classes: tuple[str, ...] | None = None

    def __init__(self, root: Path, images: Path | None = None) -> None:
        self.place = f"the folder {root}"
        self._root, self._place = root, images
        self._images: dict[Path, str] = {}  # by file, the image that has it

    def _file(self, name: str) -> Path | None:
        """The file that belongs to an image.

        Raises:
            DataError: it may belong to two.
        """
        parts = PurePosixPath(_path(self._place, name)).with_suffix("").parts
        for start in range(1, len(parts)):
            stem = self._root.joinpath(*parts[start:])
            path = next((p for s in sorted(SUFFIXES) if (p := stem.with_name(stem.name + s)).is_file()), None)
            if path is not None:
                other = self._images.setdefault(path, name)
                if other != name:
                    raise DataError(f"{path} may belong to {other} or to {name}: put it into folders as they are")
                return path
        return None

    def value(self, index: int, name: str) -> Value:
        path = self._file(name)
        if path is None:
            return None
        try:
            image = read_image(path)
        except UnreadableError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        return image.values if image.deep is None else read_deep(image.deep, str(path)).values

    def holds(self, index: int, name: str) -> bool:
        return self._file(name) is not None

    def stamp(self, index: int, name: str) -> bytes:
        path = self._file(name)
        return b"" if path is None else f"{path.name} {path.stat().st_size}".encode(errors="surrogateescape")


class TableField:
    """One column of a table: numbers, several numbers, or words, which are classes in the order of the alphabet.

    A row belongs to the image whose path ends with the row's file name, or is the end of it; suffixes may differ.

    Args:
        classes: Names of the classes, where words are to be counted among these.
        images: Where the images are.
    """

    def __init__(
        self, path: Path, column: Column, classes: Sequence[str] | None = None, images: Path | None = None
    ) -> None:
        self.place, self._name, self._place = str(path), column.name, images
        self._numbers = column.numbers()
        self._texts = {_plain(file): text for file, text in column.texts.items()}
        self.classes: tuple[str, ...] | None = None
        if self._numbers is None:
            self.classes = tuple(classes or sorted(set(column.present.values())))
        self._places = {text: place for place, text in enumerate(self.classes or ())}
        self._present = frozenset(column.present.values())
        self._rows: dict[str, list[str]] = {}  # by a row's file name
        self._ends: dict[str, list[str]] = {}  # by an end of it
        for key in self._texts:
            for form in forms(key):
                self._rows.setdefault(form, []).append(key)
            for tail in tails(key):
                self._ends.setdefault(tail, []).append(key)
        self._images: dict[str, str] = {}  # by row, the image that has it

    def _text(self, name: str) -> str | None:
        """What the table says of an image.

        Raises:
            DataError: two rows may be meant, or one row by two images.
        """
        own = _plain(name)
        places = [self._rows.get(tail) for tail in tails(_plain(_path(self._place, name)))]
        places += [self._ends.get(form) for form in forms(own)]
        keys = next((keys for keys in places if keys), [])
        keys = [own] if own in keys else keys
        if not keys:
            return None
        if len(keys) > 1:
            raise DataError(f"{self.place} has rows for {keys[0]} and {keys[1]}, either of which may be {name}")
        other = self._images.setdefault(keys[0], name)
        if other != name:
            raise DataError(
                f"the row {keys[0]} of {self.place} may be of {other} or of {name}: write the folder before the "
                "file's name in the table"
            )
        text = self._texts[keys[0]]
        return text if text in self._present else None

    def value(self, index: int, name: str) -> Value:
        text = self._text(name)
        if text is None:
            return None
        if self._numbers is not None:
            values = self._numbers[text]
            whole = len(values) == 1 and values[0].is_integer() and values[0] >= 0
            return int(values[0]) if whole else np.asarray(values, np.float32)
        if text not in self._places:
            held = ", ".join(self._places)
            raise DataError(f"`{self._name}` of {name} in {self.place} is `{text}`; the classes are {held}")
        return self._places[text]

    def holds(self, index: int, name: str) -> bool:
        return self._text(name) is not None

    def stamp(self, index: int, name: str) -> bytes:
        return (self._text(name) or "").encode()

    @property
    def example(self) -> str:
        """How the table calls a file."""
        return next(iter(self._texts), "nothing")


def _path(root: Path | None, name: str) -> str:
    """An image's whole path, if it is a file."""
    return str((root or Path()).absolute() / name)


def _plain(name: str) -> str:
    """A name as it is compared: however a system writes accents and folders."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")


def forms(path: str) -> list[str]:
    """A path with and without the suffix of an image."""
    whole = PurePosixPath(path)
    return [str(whole), str(whole.with_suffix(""))] if whole.suffix.lower() in SUFFIXES else [str(whole)]


def tails(name: str) -> Iterator[str]:
    """The ends of a path, longest first, each with and without the suffix of an image."""
    parts = PurePosixPath(name).parts
    for start in range(parts[:1] == ("/",), len(parts)):
        yield from forms(str(PurePosixPath(*parts[start:])))
