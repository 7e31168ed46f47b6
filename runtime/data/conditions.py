"""The fields that a `data` section declares: where they come from, and in the form in which a model takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.compiler.settings import Condition, Data
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.fields import Conditioned, Field, FieldSource, Value, open_field
from hvdsl.runtime.data.preprocess import random, scaled

NONE = -1
_BOX = 8  # the stream of random boxes
_SMALLEST, _LARGEST = 0.25, 0.5  # of a box's sides, as parts of the image's


class Unopened:
    """A field that is not there; said where somebody asks for it."""

    classes: tuple[str, ...] | None = None

    def __init__(self, error: DataError) -> None:
        self._error = error

    def value(self, index: int, name: str) -> Value:
        raise self._error


def open_fields(settings: Data, images: Conditioned, place: Path | None) -> dict[str, Field]:
    """Open the fields of stored images; those that are made of the image itself are left to `made`.

    Args:
        place: Where the images are: files of fields are looked for there, beside it, and from the working folder.
    """
    fields: dict[str, Field] = {}
    for condition in settings.conditions:
        if condition.source in ("image", "box"):
            continue
        source = FieldSource(_place(condition, place), condition.column, droppable=condition.drop > 0)
        try:
            fields[condition.name] = open_field(condition.name, source, images, settings.shape[1:])
        except DataError as error:
            fields[condition.name] = Unopened(error)
    return fields


def _place(condition: Condition, place: Path | None) -> Path | None:
    if condition.source is None:
        return None
    written = Path(condition.source)
    around = [] if place is None else [place / written, place.parent / written]
    return next((path for path in around if path.exists()), written)


def made(condition: Condition, pixels: NDArray[Any], key: tuple[int, int, int]) -> NDArray[np.float32] | None:
    """A field that is made of the image (C, H, W) or of chance; None where it is stored.

    Args:
        key: (split seed, epoch, index), of which chance is a function.
    """
    if condition.source == "image":
        small = scaled(pixels.transpose(1, 2, 0).astype(np.float32), condition.shape[1:])
        return np.ascontiguousarray(small.transpose(2, 0, 1))
    if condition.source == "box":
        generator = random(*key, _BOX)
        box = np.zeros(condition.shape, np.float32)
        sides = [max(1, round(n * generator.uniform(_SMALLEST, _LARGEST))) for n in condition.shape[1:]]
        top, left = (int(generator.integers(n - side + 1)) for n, side in zip(condition.shape[1:], sides, strict=True))
        box[:, top : top + sides[0], left : left + sides[1]] = 1
        return box
    return None


def formed(
    condition: Condition, value: Value, name: str, moved: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[Any]:
    """A stored value as the model takes it: a class, or numbers of the declared shape; -1 or NaN where there is none.

    Args:
        name: Of the image, for messages.
        moved: Does with (H, W, C) what is done with the image, and gives (C, H, W) of the declared size.

    Raises:
        DataError: there is none and it may not be left out, or it is not what was declared.
    """
    what = f"`{condition.name}` of {name}"
    if condition.classes is not None:
        return np.asarray(_class(condition, value, what), np.int64)
    stored = condition.shape if condition.is_map else condition.shape[:1]
    if value is None:
        _missing(condition, what)
        return np.full(stored, np.nan, np.float32)
    numbers = np.asarray([value] if isinstance(value, int) else value, np.float32)
    if condition.is_map and numbers.ndim == 3:
        numbers = moved(numbers)
    if numbers.shape != stored:
        found, declared = _size(numbers.shape), _size(stored)
        raise DataError(f"{what} is {found}, and `data` declares {declared}: correct one of the two")
    if not np.isfinite(numbers).all():
        _missing(condition, what)
    return numbers


def _class(condition: Condition, value: Value, what: str) -> int:
    if value is None or (isinstance(value, int) and value == NONE):
        _missing(condition, what)
        return NONE
    number = float(np.asarray(value).reshape(-1)[0]) if np.size(value) == 1 else -0.5
    if not number.is_integer() or not 0 <= number < (condition.classes or 0):
        shown = f"{number:g}" if np.size(value) == 1 else f"of shape {_size(np.shape(value))}"
        raise DataError(f"{what} is {shown}; `data` declares {condition.classes} classes, numbered from 0")
    return int(number)


def _missing(condition: Condition, what: str) -> None:
    if not condition.drop:
        raise DataError(
            f"there is no {what}: add it, leave the image out, or write `given {condition.name} = … {{ drop = 0.1 }}`, "
            "with which it may be absent"
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
