"""The data set that a model sees of stored images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hvdsl.compiler.settings import ConditionSettings, Data
from hvdsl.runtime.data.conditions import NONE, formed, made
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.fields import Field
from hvdsl.runtime.data.picture import StoredImage
from hvdsl.runtime.data.preprocess import Preprocess, random, resized

Pixels = NDArray[Any]  # (N, C, H, W): uint8 or uint16 0 … 2^bits − 1, or float32 of real numbers

_log = logging.getLogger(__name__)


class Images(Protocol):
    """Images as they are stored."""

    def __len__(self) -> int: ...

    def image(self, index: int, epoch: int) -> StoredImage:
        """Return image `index`, (H, W, C). Sources that crop at random depend on the epoch, files do not."""
        ...

    @property
    def labelled_by(self) -> str:
        """What says the classes, for messages."""
        ...

    def label(self, index: int) -> int | None:
        """Return the class of image `index`, if the source has classes."""
        ...

    def name(self, index: int) -> str:
        """Return what the image is called in messages and results: its file's name where it has one."""
        ...


class Subset:
    """Some of the images of another source, in a given order."""

    def __init__(self, images: Images, indices: NDArray[np.int64]) -> None:
        self.images, self.indices = images, indices

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labelled_by(self) -> str:
        return self.images.labelled_by

    def image(self, index: int, epoch: int) -> StoredImage:
        return self.images.image(int(self.indices[index]), epoch)

    def label(self, index: int) -> int | None:
        return self.images.label(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.images.name(int(self.indices[index]))


class Chain:
    """The images of several sources, one after the other."""

    def __init__(self, sources: Sequence[Images]) -> None:
        self.sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def labelled_by(self) -> str:
        return self.sources[0].labelled_by

    def image(self, index: int, epoch: int) -> StoredImage:
        source, place = self._place(index)
        return source.image(place, epoch)

    def label(self, index: int) -> int | None:
        source, place = self._place(index)
        return source.label(place)

    def name(self, index: int) -> str:
        source, place = self._place(index)
        return source.name(place)

    @property
    def fields(self) -> dict[str, NDArray[Any]]:
        """The arrays that stand beside the images of all sources, by name."""
        held = [dict(getattr(source, "fields", {})) for source in self.sources]
        common = set(held[0]).intersection(*held[1:])
        return {name: np.concatenate([fields[name] for fields in held]) for name in sorted(common)}

    def _place(self, index: int) -> tuple[Images, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[number], index - (int(self._ends[number - 1]) if number else 0)


class Teller:
    """Says each kind of thing that was done to images once, by the first image that it was done to."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def __call__(self, kind: str, sentence: str) -> None:
        if kind not in self.notes:
            self.notes[kind] = sentence
            _log.warning("%s", sentence)


class Dataset:
    """Images as the spec's `data` section wants them.

    Every value is a function of (split seed, epoch, index): a loader has no state, and a resumed run sees what an
    uninterrupted one would have seen.

    Args:
        fields: What else belongs to each image, by name.
    """

    def __init__(
        self,
        name: str,
        images: Images,
        settings: Data,
        *,
        training: bool,
        tell: Teller | None = None,
        fields: Mapping[str, Field] | None = None,
    ) -> None:
        self.name = name
        self.shape = settings.shape
        self.bits = settings.bits
        self.images, self._settings = images, settings
        self._tell = tell or Teller()
        self._preprocess = Preprocess(settings, training=training, tell=self._tell)
        self._training = training
        self.fields: Mapping[str, Field] = fields or {}

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> Pixels:
        """Return raw pixel values (N, C, H, W): uint8 (uint16 above 8 bits) 0 … 2^bits − 1, or real numbers as float32.

        `step` is that of training: with `binarize = bernoulli(every = access)` each draws anew. Outside of training
        every image is what it is in epoch 0 at step 0.

        Raises:
            DataError: an image cannot be read, or has not the shape that the spec states.
        """
        if not self._training:
            epoch = step = 0
        return np.stack([self._one(self.images.image(int(i), epoch), int(i), epoch, step) for i in indices])

    def conditioned(
        self, indices: Sequence[int], fields: Sequence[str], epoch: int = 0, step: int = 0
    ) -> tuple[Pixels, dict[str, NDArray[Any]]]:
        """Return raw pixel values and some of the fields that `data` declares, as a model takes them.

        Classes are (N,) int64, -1 where there is none; numbers (N, C) or (N, C, H, W) float32, NaN where there are
        none. Geometry is applied alike to the image and to all that has places.

        Raises:
            DataError: as `batch`; or a field has no value for an image and may not be dropped, or is not what `data`
                declares.
        """
        declared = {condition.name: condition for condition in self._settings.conditions}
        missing = next((key for key in fields if key not in declared), None)
        if missing is not None:
            raise DataError(f"{self.name} has no field `{missing}`: write `given {missing} = …` in `data`")
        if not self._training:
            epoch = step = 0
        rows: list[Pixels] = []
        given: dict[str, list[NDArray[Any]]] = {key: [] for key in fields}
        for index in map(int, indices):
            raster = self.images.image(index, epoch)
            rows.append(self._one(raster, index, epoch, step))
            for key, values in given.items():
                values.append(self._formed(declared[key], rows[-1], epoch, index, raster.values.shape[:2]))
        return np.stack(rows), {key: np.stack(values) for key, values in given.items()}

    def _formed(
        self, condition: ConditionSettings, pixels: Pixels, epoch: int, index: int, stored: tuple[int, ...]
    ) -> NDArray[Any]:
        """A field of an image, which is `stored` with that height and width."""
        own = made(self._settings, condition, pixels, epoch, index)
        if own is not None:
            return own
        name = self.images.name(index)
        source = self.fields[condition.name]
        value = source.value(self._origin(index), name)
        return formed(condition, value, name, source.place, lambda n: self._moved(condition, n, epoch, index, stored))

    def _moved(
        self, condition: ConditionSettings, numbers: NDArray[Any], epoch: int, index: int, stored: tuple[int, ...]
    ) -> NDArray[Any]:
        """Do with (H, W, C) what is done with the image, and bring it to the size that was declared."""
        size, name = condition.shape[1:], self.images.name(index)
        if numbers.shape[:2] == stored:
            numbers = self._preprocess.geometry(numbers, epoch, index, f"`{condition.name}` of {name}")
        elif numbers.shape[:2] == size and not self._preprocess.moves:
            numbers = self._preprocess.flipped(numbers, epoch, index)
        else:
            raise DataError(
                f"`{condition.name}` of {name} is {numbers.shape[0]}x{numbers.shape[1]}, and the image "
                f"{stored[0]}x{stored[1]}: make them alike"
            )
        return np.ascontiguousarray(resized(numbers, size).transpose(2, 0, 1))

    def absent(self, field: str) -> int:
        """Return how many images have no value of a field of `data`, as far as can be said without reading images.

        Raises:
            DataError: one has none and may not be without, or one that is not what `data` declares.
        """
        condition = next(condition for condition in self._settings.conditions if condition.name == field)
        source = self.fields.get(field)
        if source is None:  # made of the image
            return 0
        count = 0
        for index in range(len(self)):
            name = self.images.name(index)
            if condition.is_map and source.holds(self._origin(index), name):
                continue
            value = None if condition.is_map else source.value(self._origin(index), name)
            row = formed(condition, value, name, source.place, np.asarray)
            count += bool((row == NONE).all() if condition.classes is not None else np.isnan(row).any())
        return count

    def stamp(self, field: str) -> bytes:
        """Return what tells the values of a field from others, as far as can be said without reading images."""
        source = self.fields.get(field)  # none where it is made of the image
        rows = range(len(self)) if source is not None else ()
        return b"\0".join(source.stamp(self._origin(i), self.images.name(i)) for i in rows if source is not None)

    def _origin(self, index: int) -> int:
        """The place of an image among those of the source, by which its fields are stored."""
        return int(self.images.indices[index]) if isinstance(self.images, Subset) else index

    def unaugmented(self) -> Dataset:
        """Return the same images as evaluation would see them: not flipped, and where they are cropped at random, as
        in epoch 0."""
        return Dataset(
            self.name,
            self.images,
            self._settings,
            training=False,
            tell=self._tell,
            fields=self.fields,
        )

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the images' names: those of their files, where they have some."""
        return [self.images.name(int(i)) for i in indices]

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        """Return the classes (N,), or None where one of the images has none.

        Raises:
            DataError: a class is not one of the spec's `classes`.
        """
        labels = [self.images.label(int(i)) for i in indices]
        known = [label for label in labels if label is not None]
        if len(known) < len(labels):
            return None
        classes = self._settings.classes
        wrong = next((i for i, label in enumerate(known) if label < 0 or (classes and label >= classes)), None)
        if wrong is not None:
            name = self.images.name(int(indices[wrong]))
            limit = f", and `data.classes` is {classes}" if classes else ""
            raise DataError(f"{name} is of class {known[wrong]}{limit}: classes count from 0")
        return np.asarray(known, np.int64)

    def _one(self, raster: StoredImage, index: int, epoch: int, step: int) -> Pixels:
        name = self.images.name(index)
        pixels = self._preprocess(raster, epoch, index, name, step)
        if pixels.shape != self.shape:
            (c, h, w), (want_c, want_h, want_w) = pixels.shape, self.shape
            raise DataError(
                f"{name} is {c}x{h}x{w}, the spec's data section says {want_c}x{want_h}x{want_w}: "
                f"change `shape`, or set `resize = {want_h}x{want_w}` (or `crop`, `pad`) in `data`"
            )
        return pixels


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set. `validation` is what training watches, `test` what a paper reports.

    Attributes:
        summary: One line that says what was taken and what was not.
        classes: Names of the classes, where folders give them.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    summary: str = ""
    classes: tuple[str, ...] = field(default=())


def holdout_split(count: int, holdout: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (kept, held out) indices: `holdout` is a count, or a fraction when it is below 1. Deterministic in `seed`.

    Raises:
        DataError: nothing would be left on one side.
    """
    held = round(holdout * count) if 0 < holdout < 1 else int(holdout)
    if not 0 < held < count:
        raise DataError(
            f"`holdout` takes {held} of {count} images: give a count or fraction that leaves some on both sides"
        )
    order = random(seed).permutation(count)
    return np.sort(order[:-held]), np.sort(order[-held:])
