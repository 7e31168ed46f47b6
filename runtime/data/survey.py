"""What a place holds: sizes, ranges, classes, duplicates, mean and deviation, and the lines that a spec needs."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.arrays import Arrays
from hvdsl.runtime.data.dataset import Dataset, Images
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.folder import ImageFiles
from hvdsl.runtime.data.names import ALL, TRAIN, is_wrapper
from hvdsl.runtime.data.picture import StoredImage
from hvdsl.runtime.data.preprocess import Preprocess, native
from hvdsl.runtime.data.source import DataSource, find_source

_DECODED = 2_000  # images of each part, evenly spread, whose pixels are looked at
_SPREAD = 256  # training images, evenly spread, that mean and deviation are of
_HASHED = 1 << 30  # bytes that are compared to find duplicates
_THREADS = 8
_TABLES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True, slots=True)
class NumberKind:
    """Images of one type of numbers.

    Attributes:
        values: Least and largest stored value of those that were decoded.
        constant: How many of these hold a single value.
        clear: How many have a pixel that is not opaque.
        deep: How many have more bits per colour in their files than the 8 that were looked at.
        unfinite: How many hold NaN or an infinity.
    """

    images: int
    values: tuple[float, float]
    constant: int
    clear: int
    deep: int
    unfinite: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found at a place.

    Attributes:
        summary: What was taken and what was not, in one line.
        parts: Images by part.
        sizes: Images of each height, width and number of channels (without opacity); commonest first.
        kinds: By the type of their numbers.
        classes: Training images by class, where folders or labels say them.
        across: Pairs of images that are the same in different parts: byte for byte, or in all pixels of those decoded.
        within: How many repeat another of their part.
        compared: Whether all images were compared.
        decoded: How many images the statistics are of.
        mean, deviation: Of `v` in up to 256 training images, under the settings of the spec or those suggested.
        left_out: Name and reason of each file that is not taken.
        suggested: Settings that the images fit.
        notes: What is done with some images that one may not expect, as that only the first frame is taken.
    """

    summary: str
    parts: Mapping[str, int]
    sizes: Mapping[tuple[int, int, int], int]
    kinds: Mapping[str, NumberKind]
    classes: Mapping[str, int]
    across: Sequence[tuple[str, str]]
    within: int
    compared: bool
    decoded: int
    mean: float
    deviation: float
    left_out: Sequence[tuple[str, str]]
    suggested: Data
    notes: Sequence[str]
    images: Mapping[str, Images] = field(repr=False)


def survey(path: Path, settings: Data | None = None) -> Survey:
    """Look at all images at a place: every header, the bytes of those that may be the same, the pixels of up to 2,000.

    Args:
        settings: A spec's `data`, where there is one: its `values` and `shape` say how arrays are read.

    Raises:
        DataError: there is nothing that can be read.
    """
    source = find_source(settings or Data(name="images", shape=(3, 1, 1)), path, shaped=settings is not None)
    sizes: Counter[tuple[int, int, int]] = Counter()
    seen: dict[str, _Seen] = {}
    pixels: dict[bytes, list[tuple[str, str]]] = {}  # part and name of the images decoded, by their pixels
    for part, images in source.parts.items():
        indices = np.unique(np.linspace(0, len(images) - 1, min(_DECODED, len(images))).astype(int)).tolist()
        for index, raster in zip(indices, _rasters(images, indices), strict=True):
            values = native(raster.values)
            colours = values[:, :, :-1] if raster.alpha else values
            seen.setdefault(str(colours.dtype), _Seen()).add(raster, colours)
            if isinstance(images, ImageFiles):
                pixels.setdefault(_pixel_digest(values), []).append((part, images.name(index)))
            if not isinstance(images, ImageFiles):
                sizes[colours.shape] += 1
        if isinstance(images, ImageFiles):
            sizes.update((r.header.height, r.header.width, r.header.channels) for r in images.records if r.header)
    kinds = {name: one.kind() for name, one in seen.items()}
    classes = _classes(source)
    suggested = _suggested(sizes, kinds, _class_count(source))
    notes: dict[str, str] = {}
    mean, deviation = _spread(source, settings or suggested, notes) or _stored_spread(seen, settings or suggested)
    across, within, compared = _duplicates(source, pixels.values())
    records = source.listing.records if source.listing is not None else ()
    return Survey(
        summary=source.summary,
        parts={part: len(images) for part, images in source.parts.items()},
        sizes=dict(sizes.most_common()),
        kinds=kinds,
        classes=classes,
        across=across,
        within=within,
        compared=compared,
        decoded=sum(kind.images for kind in kinds.values()),
        mean=mean,
        deviation=deviation,
        left_out=[
            *((record.name, record.left_out) for record in records if record.left_out),
            *(pair for images in source.parts.values() if isinstance(images, ImageFiles) for pair in images.damaged),
        ],
        suggested=suggested,
        notes=[*notes.values(), *(_tables(source) if settings is None else ())],
        images=source.parts,
    )


class _Seen:
    """What was seen of the images of one type of numbers."""

    def __init__(self) -> None:
        self.images = self.constant = self.clear = self.deep = self.unfinite = 0
        self.low, self.high = math.inf, -math.inf
        self.moments = np.zeros(3)  # how many values, their sum, the sum of their squares

    def add(self, raster: StoredImage, colours: NDArray[Any]) -> None:
        wide = colours.astype(np.float64)
        finite = np.isfinite(wide)
        self.images += 1
        self.deep += raster.deep is not None and raster.deep.cut
        self.unfinite += not finite.all()
        self.clear += raster.alpha and bool((raster.values[:, :, -1] != raster.top).any())
        wide = wide[finite]
        if wide.size == 0:
            return
        low, high = float(wide.min()), float(wide.max())
        self.constant += low == high
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.moments += np.array([wide.size, wide.sum(), np.square(wide).sum()])

    def kind(self) -> NumberKind:
        values = (self.low, self.high) if self.low <= self.high else (0.0, 0.0)
        return NumberKind(self.images, values, self.constant, self.clear, self.deep, self.unfinite)


def training_images(survey: Survey, settings: Data, *, augmented: bool) -> Dataset:
    """Return the training images (or all, where nothing says which are) as a model sees them, in training or not."""
    images = survey.images.get(TRAIN) or survey.images.get(ALL) or next(iter(survey.images.values()))
    return Dataset("the images", images, settings, training=augmented)


def _rasters(images: Images, indices: Sequence[int]) -> Iterator[StoredImage]:
    """Decode images on threads, a few ahead of who reads them."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(indices), 4 * _THREADS):
            yield from pool.map(lambda index: images.image(index, 0), indices[start : start + 4 * _THREADS])


def _spread(source: DataSource, settings: Data, notes: dict[str, str]) -> tuple[float, float] | None:
    """Mean and deviation of `v` in training images as a model sees them; None where none fits the settings.

    Args:
        notes: Takes what was done to them that one may not expect, by kind.
    """
    images = source.parts.get(TRAIN) or source.parts.get(ALL) or next(iter(source.parts.values()))
    preprocess = Preprocess(
        settings, training=False, tell=lambda kind, note: notes.update({kind: notes.get(kind, note)})
    )
    indices = np.unique(np.linspace(0, len(images) - 1, min(_SPREAD, len(images))).astype(int)).tolist()
    moments = np.zeros(3)
    for index, raster in zip(indices, _rasters(images, indices), strict=True):
        try:
            values = preprocess(raster, 0, index, images.name(index)).astype(np.float64)
        except DataError:  # said by name where the data are opened with the settings
            continue
        moments += np.array([values.size, values.sum(), np.square(values).sum()])
    return _mean_and_deviation(moments) if moments[0] else None


def _stored_spread(seen: Mapping[str, _Seen], settings: Data) -> tuple[float, float]:
    """Mean and deviation of what is stored, in units of `v`."""
    moments = np.zeros(3)
    for kind, one in seen.items():
        factor = 1.0
        if settings.values == "scaled" and kind in ("uint8", "uint16"):
            factor = (2**settings.bits - 1) / np.iinfo(kind).max
        moments += one.moments * np.array([1.0, factor, factor**2])
    return _mean_and_deviation(moments)


def _mean_and_deviation(moments: NDArray[np.float64]) -> tuple[float, float]:
    """Of how many values, their sum, and the sum of their squares."""
    count, total, squares = moments
    mean = total / max(count, 1)
    return float(mean), math.sqrt(max(0.0, squares / max(count, 1) - mean**2))


def _duplicates(
    source: DataSource, alike: Iterable[Sequence[tuple[str, str]]]
) -> tuple[list[tuple[str, str]], int, bool]:
    """Pairs in different parts, how many repeat another of their part, and whether all images were compared.

    Args:
        alike: Part and name of images that are the same in all pixels.
    """
    groups: dict[bytes, list[tuple[str, str]]] = {}
    budget = _HASHED
    images = ((part, each) for part, images in source.parts.items() for each in _digests(images, source))
    for part, (name, digest, size) in images:
        budget -= size
        if budget < 0:
            break
        groups.setdefault(digest, []).append((part, name))
    across: dict[str, str] = {}  # by the later one
    within: set[str] = set()
    for (first_part, first), *others in (*groups.values(), *alike):
        for part, name in others:
            if part != first_part:
                across.setdefault(f"{part}: {name}", f"{first_part}: {first}")
            elif name != first:
                within.add(f"{part}: {name}")
    return [(first, later) for later, first in across.items()], len(within), budget >= 0


def _pixel_digest(values: NDArray[Any]) -> bytes:
    digest = hashlib.blake2b(f"{values.dtype} {values.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def _digests(images: Images, source: DataSource) -> Iterator[tuple[str, bytes, int]]:
    """Name, digest and number of bytes that were read of each image; files of a size of their own are not read."""
    if isinstance(images, ImageFiles):
        records = [record for part in source.parts.values() if isinstance(part, ImageFiles) for record in part.records]
        sizes = Counter(_size(record.path) for record in records)
        for record in images.records:
            size = _size(record.path)
            if sizes[size] > 1:
                yield record.name, hashlib.blake2b(record.path.read_bytes(), digest_size=16).digest(), size
    elif isinstance(images, Arrays):
        for index in range(len(images)):
            row = np.ascontiguousarray(images.stored[index])
            yield images.name(index), hashlib.blake2b(row.tobytes(), digest_size=16).digest(), row.nbytes
    else:  # packed in larger files: by their pixels
        for index, raster in enumerate(_rasters(images, range(len(images)))):
            values = np.ascontiguousarray(raster.values)
            yield images.name(index), hashlib.blake2b(values.tobytes(), digest_size=16).digest(), values.nbytes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _classes(source: DataSource) -> dict[str, int]:
    images = source.parts.get(TRAIN) or source.parts.get(ALL)
    if isinstance(images, ImageFiles):
        if len(images.classes) == 1 and is_wrapper(images.classes[0]):
            return {}
        counts = Counter(record.folder for record in images.records)
        return {name: counts[name] for name in images.classes}
    if images is None or images.label(0) is None:
        return {}
    labels = Counter(images.label(index) for index in range(len(images)))
    names = dict(enumerate(getattr(images, "classes", ())))  # as tables and folders in tar files have them
    by_number = sorted(labels.items(), key=lambda item: item[0] or 0)
    return {names.get(-1 if label is None else label, str(label)): count for label, count in by_number}


def _class_count(source: DataSource) -> int:
    """How many classes a spec has to count: folders, or numbers from 0."""
    images = source.parts.get(TRAIN) or source.parts.get(ALL)
    if images is None or isinstance(images, ImageFiles):
        return 0 if images is None else len(images.classes)
    labels = [label for index in range(len(images)) if (label := images.label(index)) is not None]
    return max(labels, default=-1) + 1


def _tables(source: DataSource) -> Iterator[str]:
    """What tables beside the images are for, where nothing reads them."""
    for record in source.listing.records if source.listing is not None else ():
        if record.left_out and "/" not in record.name and record.path.suffix.lower() in _TABLES:
            line = f'given NAME = 10 classes {{ source = "{record.name}" }}'
            yield f"{record.name} is a table: `{line}` in `data` takes a column of it"


def _suggested(sizes: Mapping[tuple[int, int, int], int], kinds: Mapping[str, NumberKind], classes: int) -> Data:
    """The settings that these images need."""
    channels = max(size[2] for size in sizes)
    heights, widths = {size[0] for size in sizes}, {size[1] for size in sizes}
    needed: dict[str, Any] = {}
    if len(heights) == len(widths) == 1:
        needed["shape"] = (channels, heights.pop(), widths.pop())
    else:
        side = 1 << (min(*heights, *widths, 256)).bit_length() - 1
        needed |= {"shape": (channels, side, side), "resize": (side, side)}
    most = int(max(kind.values[1] for kind in kinds.values()))
    dark = (set(kinds) == {"uint8"} and 0 < most < 64) or (set(kinds) == {"uint16"} and 0 < most < 1 << 13)
    if dark or not set(kinds) <= {"uint8", "uint16"}:
        whole = not any(name.startswith("float") for name in kinds)
        if whole and min(kind.values[0] for kind in kinds.values()) >= 0 and most < 1 << 16:
            needed |= {"values": "levels", "bits": max(1, most.bit_length())}
        else:
            needed["values"] = "real"
    if classes > 1:
        needed["classes"] = classes
    if any(kind.clear for kind in kinds.values()):
        needed["alpha"] = "white"
    return Data(name="images", **needed)


def suggested_lines(survey: Survey) -> list[str]:
    """Return what to write between the braces of `data`."""
    data = survey.suggested
    written = [f"shape = {'x'.join(map(str, data.shape))}"]
    if isinstance(data.resize, tuple):
        written.append(f"resize = {data.resize[0]}x{data.resize[1]}")
    more = (key for key in ("values", "bits", "classes", "alpha") if key in data.model_fields_set)
    written += [f"{key} = {getattr(data, key)}" for key in more]
    sign = "+" if survey.mean < 0 else "-"
    written.append(f"input = (v {sign} {abs(survey.mean):.5g}) / {max(survey.deviation, 1e-6):.5g}")
    if not data.is_real:
        written.append(f"target = v / {(2**data.bits - 1) / 2:g} - 1")
    return written
