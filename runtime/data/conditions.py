"""The fields that a `data` section declares: where they come from, and in the form in which a model takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.compiler.settings import LABEL, ConditionSettings, Data
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.fields import ArrayField, ClassField, Field, ImageField, Labelled, TableField, Value
from hvdsl.runtime.data.preprocess import random, resized
from hvdsl.runtime.data.tables import read_table

NONE = -1
_COMMA = re.compile(r"[-+]?\d+(,\d+)?")  # a decimal as some countries write it
_NAMED = 8  # words that a message shows
_BOX = 8  # the stream of random boxes
_SMALLEST, _LARGEST = 0.25, 0.5  # of a box's sides, as parts of the image's


class Absent:
    """A field that may be absent, and is for all images."""

    place, classes = "", None

    def value(self, index: int, name: str) -> Value:
        return None

    def holds(self, index: int, name: str) -> bool:
        return False

    def stamp(self, index: int, name: str) -> bytes:
        return b""


class Unopened:
    """A field that is not there; said where somebody asks for it."""

    place, classes = "", None

    def __init__(self, error: DataError) -> None:
        self._error = error

    def value(self, index: int, name: str) -> Value:
        raise self._error

    def holds(self, index: int, name: str) -> bool:
        raise self._error

    def stamp(self, index: int, name: str) -> bytes:
        return b""


def open_fields(
    settings: Data,
    images: Labelled,
    place: Path | None,
    classes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    whole: Path | None = None,
) -> dict[str, Field]:
    """Open the fields of stored images; those that are made of the image itself are left to `made`.

    Args:
        place: Where the images are: files of fields are looked for there, beside it, and from the working folder.
        whole: The same of the data that these images are a part of.
        classes: By field, the names of classes that a model was trained with.
    """
    fields: dict[str, Field] = {}
    for condition in settings.conditions:
        if condition.source not in ("image", "box"):
            try:
                fields[condition.name] = _open(condition, images, place, classes.get(condition.name), whole)
            except DataError as error:
                fields[condition.name] = Unopened(error)
    return fields


def _open(
    condition: ConditionSettings,
    images: Labelled,
    place: Path | None,
    classes: Sequence[str] | None,
    whole: Path | None,
) -> Field:
    """Open one field.

    Raises:
        DataError: there is no such array, folder, table or column, or its words are not the classes that are declared.
    """
    name, root = condition.name, place.parent if place is not None and place.is_file() else place
    if condition.source is None:
        arrays: Mapping[str, NDArray[Any]] = getattr(images, "fields", {})
        if name in arrays:
            return ArrayField(name, arrays[name], condition.shape)
        if name == LABEL:
            return ClassField(images, classes or getattr(images, "classes", None), root)
        held = f"there are {', '.join(arrays)}" if arrays else "there are none"
        if condition.classes and images.label(0) is not None:
            held += f"; the classes of the images are the field `{LABEL}`"
        raise DataError(
            f"there is no array `{name}` beside the images ({held}): put it into their .npz, or say where it is, "
            f'`given {name} = … {{ source = "table.csv" }}`'
        )
    path = _find(condition, [each for each in (whole, place) if each is not None])
    if path.is_dir():
        return ImageField(path, root)
    columns, column = read_table(path), condition.column or name
    if column not in columns:
        held = ", ".join(columns) or "nothing beside the names of files"
        raise DataError(f"{path} has no column `{column}`: it has {held}; `column = …` says which")
    field = TableField(path, columns[column], classes, root)
    words = field.classes
    if words is not None and len(words) != condition.classes:
        if all(_COMMA.fullmatch(word) for word in words):
            raise DataError(f"`{column}` in {path} is {words[0]}: write decimals with a point")
        shown = ", ".join(words[:_NAMED]) + (", …" if len(words) > _NAMED else "")
        said = f"{condition.classes} classes" if condition.classes else "numbers"
        raise DataError(
            f"the column `{column}` of {path} holds {len(words)} different words, {shown}, and `data` declares {said}: "
            f"write `given {name} = {len(words)} classes`"
        )
    return field


def _find(condition: ConditionSettings, around: Sequence[Path]) -> Path:
    """The folder or table of a field: where the images are, beside them, or from the working folder."""
    written = Path(condition.source or "")
    places = list(
        dict.fromkeys([*(path for place in around for path in (place / written, place.parent / written)), written])
    )
    path = next((path for path in places if path.exists()), None)
    if path is not None:
        return path
    there = {each.name for path in places if path.parent.is_dir() for each in path.parent.iterdir()}
    near = get_close_matches(written.name, there, 1)
    raise DataError(
        f"there is no `{written}`, the source of `{condition.name}`: looked for {', '.join(map(str, places))}"
        + (f"; did you mean `{near[0]}`?" if near else "")
        + f"; in uses of a trained model `--given {condition.name}=…` says it"
    )


def made(
    data: Data, condition: ConditionSettings, pixels: NDArray[Any], epoch: int, index: int
) -> NDArray[np.float32] | None:
    """A field that is made of the image (C, H, W) or of chance; None where it is stored.

    A smaller image has whole numbers where the image has, as a file could hold it. Chance is a function of the split
    seed, `epoch` and `index`.
    """
    if condition.source == "image":
        small = resized(pixels.transpose(1, 2, 0).astype(np.float32), condition.shape[1:])
        small = small if data.is_real else np.rint(small)
        return np.ascontiguousarray(small.transpose(2, 0, 1))
    if condition.source == "box":
        generator = random(data.split_seed, epoch, index, _BOX)
        box = np.zeros(condition.shape, np.float32)
        sides = [max(1, round(n * generator.uniform(_SMALLEST, _LARGEST))) for n in condition.shape[1:]]
        top, left = (int(generator.integers(n - side + 1)) for n, side in zip(condition.shape[1:], sides, strict=True))
        box[:, top : top + sides[0], left : left + sides[1]] = 1
        return box
    return None


def formed(
    condition: ConditionSettings, value: Value, name: str, place: str, moved: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[Any]:
    """A stored value as the model takes it: a class, or numbers of the declared shape; -1 or NaN where there is none.

    Args:
        name: Of the image, for messages.
        place: What the value was read from, for messages.
        moved: Does with (H, W, C) what is done with the image, and gives (C, H, W) of the declared size.

    Raises:
        DataError: there is none and it may not be left out, or it is not what was declared.
    """
    what = f"`{condition.name}` of {name}"
    if condition.classes is not None:
        return np.asarray(_class(condition, value, name, place), np.int64)
    stored = condition.shape if condition.is_map else condition.shape[:1]
    nothing = np.full(stored, np.nan, np.float32)
    if value is None:
        _missing(condition, name, place)
        return nothing
    numbers = np.asarray([value] if isinstance(value, int) else value, np.float32)
    if condition.is_map and numbers.ndim == 3:
        numbers = moved(numbers)
    if numbers.shape != stored:
        held, declared = _size(numbers.shape), _size(stored)
        raise DataError(f"{what} is {held}, and `data` declares {declared}: correct one of the two")
    if not np.isfinite(numbers).all():  # in part is as good as not
        _missing(condition, name, place)
        return nothing
    return numbers


def _class(condition: ConditionSettings, value: Value, name: str, place: str) -> int:
    if value is None or (isinstance(value, int) and value == NONE):
        _missing(condition, name, place)
        return NONE
    number = float(np.asarray(value).reshape(-1)[0]) if np.size(value) == 1 else -0.5
    if np.isnan(number):
        _missing(condition, name, place)
        return NONE
    if not number.is_integer() or not 0 <= number < (condition.classes or 0):
        shown = f"{number:g}" if np.size(value) == 1 else f"of shape {_size(np.shape(value))}"
        last = (condition.classes or 0) - 1
        raise DataError(
            f"`{condition.name}` of {name} is {shown}; `data` declares {condition.classes} classes, "
            f"numbered 0 to {last}"
        )
    return int(number)


def _missing(condition: ConditionSettings, name: str, place: str) -> None:
    if not condition.drop:
        raise DataError(
            f"there is no `{condition.name}` of {name} in {place}: add it, or write "
            f"`given {condition.name} = … {{ drop = 0.1 }}`, with which it may be absent; in uses of a trained model "
            f"`--given {condition.name}=…` says it"
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
