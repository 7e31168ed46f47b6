"""Open the data that a spec names, for training and for uses of a trained run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hvdsl.compiler.settings import LABEL, Data
from hvdsl.runtime.data.conditions import Absent, Unopened, open_fields
from hvdsl.runtime.data.dataset import Dataset, Images, Splits, Subset, Teller, holdout_split
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.folder import ImageFiles
from hvdsl.runtime.data.hub import is_hub_name
from hvdsl.runtime.data.names import ALL, PARTS, TEST, TRAIN, VALIDATION
from hvdsl.runtime.data.packed import Lmdb, PictureTable, TarShards
from hvdsl.runtime.data.source import SHIPPED, DataSource, find_source

DEFAULT_HOLDOUT = 0.1
_PROBES = 32  # images of each part that are decoded when data is opened


def open_splits(
    settings: Data, path: Path | None = None, classes: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Splits:
    """Open the training, validation and test images that a `data` section names, as `find_source` finds them.

    Where the data has no validation images of its own, `holdout` of the training images (default a tenth) are held out;
    where it has no test images, the validation images serve.

    Args:
        classes: By field, the names of classes that a model was trained with, among which those of the data count.

    Raises:
        DataError: missing, damaged, or not what the section says: the heads of all files and some images are read.
    """
    source = find_source(settings, path)
    train, validation, test, held_out = _three_parts(settings, source, path, classes)
    name, tell = settings.source if settings.source in SHIPPED else settings.name, Teller()

    def dataset(title: str, images: Images, *, training: bool = False) -> Dataset:
        stored = images.images if isinstance(images, Subset) else images
        fields = open_fields(settings, stored, source.place, classes)
        return Dataset(title, images, settings, training=training, tell=tell, fields=fields)

    splits = Splits(
        dataset(name, train, training=True),
        dataset(f"{name} (validation)", validation),
        dataset(f"{name} (test)", test),
        source.summary + (f"; {len(validation):,} held out for validation" if held_out else ""),
        source.classes,
    )
    for images in source.parts.values():
        if isinstance(images, ImageFiles | Lmdb | TarShards | PictureTable):
            images.check(settings)
    for split in (splits.train, splits.validation, splits.test):
        probe(split, settings, tell, strict=split is splits.train)
    return splits


def _three_parts(
    settings: Data, source: DataSource, path: Path | None, classes: Mapping[str, Sequence[str]]
) -> tuple[Images, Images, Images, bool]:
    """The training, validation and test images of a source, and whether the second are held out of the first."""
    parts = dict(source.parts)
    if settings.classes is not None and not _is_told(settings):
        _check_folders(parts, settings.classes)
        if LABEL in classes:
            parts = {part: _among(images, classes[LABEL]) for part, images in parts.items()}
    train = parts.get(TRAIN, parts.get(ALL))
    if train is None:
        held = " and ".join(part for part in PARTS if part in parts)
        raise DataError(f"{path} has {held} images but none to train on: add a `train` folder or file")
    validation = parts.get(VALIDATION)
    if validation is not None and not settings.holdout:
        return train, validation, parts.get(TEST, validation), False
    if len(train) == 1 and not settings.holdout:
        frames = train.image(0, 0).frames
        more = f"; {train.name(0)} has {frames} frames, of which the first is taken: save them as one .npy"
        raise DataError(
            f"{path or settings.name} has one training image and none for validation: give more images"
            f"{more if frames > 1 else ''}"
        )
    holdout = settings.holdout or max(1, round(DEFAULT_HOLDOUT * len(train)))
    kept, held_indices = holdout_split(len(train), holdout, settings.split_seed)
    validation = Subset(train, held_indices)
    return Subset(train, kept), validation, parts.get(TEST, validation), True


def open_given(
    settings: Data,
    path: Path | None,
    noted: Path | None = None,
    split: str | None = None,
    default: str = TEST,
    classes: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Dataset:
    """Open the images that a use of a trained run speaks of; the data set's name says which and how many.

    `path` is what the user gave: these images, all of them, in order, with their names. Where they have parts of their
    own (MNIST's archive), the test part, or `split`. Without `path`, the `split` (or `default`) of the run's own data.

    Args:
        noted: Where the run's own data is.
        classes: As of `open_splits`.

    Raises:
        DataError: as `open_splits`; or there is no such part.
    """
    if path is None:
        own: Dataset = getattr(open_splits(settings, noted, classes), split or default)
        own.name = f"{len(own):,} {split or default} images"
        return own
    settings = of_other_images(settings)
    source = find_source(settings, path)
    if split is not None and set(source.parts) == {ALL}:
        divided: Dataset = getattr(open_splits(settings, path, classes), split)
        divided.name = f"{len(divided):,} {split} images of {path}, as `holdout` divides it"
        return divided
    return _whole(settings, source, path, noted, _part(source, path, split), classes)


def _whole(
    settings: Data,
    source: DataSource,
    path: Path,
    noted: Path | None,
    part: str,
    classes: Mapping[str, Sequence[str]],
) -> Dataset:
    """All images of a part of a source that a user gave, with the conditions that stand beside them."""
    images = source.parts[part]
    if isinstance(images, ImageFiles):
        images = images.without_replacements()
    which = "" if part == ALL else f"{part} "
    count = f"{len(images):,} {which}image{'' if len(images) == 1 else 's'}"
    tell = Teller()
    if settings.classes is not None and LABEL in classes:
        images = _among(images, classes[LABEL])
    elif settings.classes is not None and isinstance(images, ImageFiles):
        images = _in_classes(images, settings, noted)
    left = source.listing.left if source.listing is not None else ""
    title = "; ".join(text for text in (f"{count} of {path}", left, source.note) if text)
    place = source.place or path
    own = noted is not None and not is_hub_name(noted) and place.resolve().is_relative_to(noted.resolve())
    fields = open_fields(settings, images, place, classes, noted if own else None)
    droppable = {condition.name for condition in settings.conditions if condition.drop}
    fields |= {n: Absent() for n, field in fields.items() if isinstance(field, Unopened) and n in droppable}
    dataset = Dataset(title, images, settings, training=False, tell=tell, fields=fields)
    if isinstance(images, ImageFiles | Lmdb):
        images.check(settings)
    probe(dataset, settings, tell, strict=False)
    dataset.name += "".join(_without(dataset, settings))
    return dataset


def _part(source: DataSource, path: Path, split: str | None) -> str:
    """Which part of a source is meant: all of it, where it has none of its own; else the `split`, or the test part."""
    if set(source.parts) == {ALL}:
        return ALL
    part = split or next(p for p in (TEST, VALIDATION, TRAIN) if p in source.parts)
    if part not in source.parts:
        raise DataError(f"{path} has no {part} part: it has {', '.join(source.parts)}")
    return part


def _without(dataset: Dataset, settings: Data) -> Iterator[str]:
    """Which fields that may be absent are so, to be told with the data set's name."""
    for condition in settings.conditions:
        if condition.drop and (count := dataset.absent(condition.name)):
            yield f"; {count:,} without `{condition.name}`"


def _is_told(settings: Data) -> bool:
    """Whether the classes come from somewhere else than the images' own folders or labels."""
    return any(field.name == LABEL and field.source is not None for field in settings.given)


def _among(images: Images, classes: Sequence[str]) -> Images:
    """Count the classes of folders among those of these names."""
    return images.with_classes(classes) if isinstance(images, ImageFiles | PictureTable) and images.classes else images


def _in_classes(images: ImageFiles, settings: Data, noted: Path | None) -> ImageFiles:
    """Count the classes of other images as those of the data that a model was trained on, by the names of folders."""
    try:
        names = find_source(settings, noted).classes
    except DataError:  # it is not where it was: the order of the same number of folders is all there is to go by
        names = images.classes if len(images.classes) == settings.classes else ()
    return images.with_classes(names) if images.classes else images


def of_other_images(settings: Data) -> Data:
    """The settings for other images than those that ship: under the name `images`."""
    if settings.name not in SHIPPED and settings.source not in SHIPPED:
        return settings
    return settings.model_copy(update={"name": "images", "source": None})


def probe(dataset: Dataset, settings: Data, tell: Teller, *, strict: bool) -> None:
    """Read some images, evenly spread, so that what does not fit is said before anything is written.

    Raises:
        DataError: one cannot be used; or all are so dark that cutting their bits leaves nothing (of a single image
            this is only told unless `strict`), or, `strict`, fewer levels than they had.
    """
    if len(dataset) == 0:
        raise DataError(f"{dataset.name} has no images")
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(_PROBES, len(dataset))).astype(int)).tolist()
    least, most, depth, brightest = np.inf, -np.inf, 0, 0  # depth: bits of the deepest numbers, whose most it is
    for index in indices:
        raster = dataset.images.image(index, 0)
        colours = raster.values[:, :, :-1] if raster.alpha else raster.values
        bits = 8 * colours.dtype.itemsize if colours.dtype.kind == "u" else 0
        if (bits, float(colours.max())) > (depth, most):
            depth, most, brightest = bits, float(colours.max()), index
        least = min(least, float(colours.min()))
        dataset.batch([index])
    top, cut = 2**settings.bits - 1, max(0, depth - settings.bits)
    if settings.values == "scaled" and cut and 0 < most <= max(top, 2**cut - 1):
        levels = "levels" if most <= top else f"levels, bits = {int(most).bit_length()}"
        nothing = most < 2**cut
        sentence = (
            f"{dataset.images.name(brightest)}: values reach {most:g} of {2**depth - 1:,} and no more in "
            f"{len(indices):,} images looked at; `bits = {settings.bits}` would cut "
            f"{'all of them to 0' if nothing else f'them to 0 … {int(most) >> cut}'}: write `values = {levels}` in "
            "`data` to take them as they are"
        )
        if strict or (nothing and len(indices) > 1):
            raise DataError(sentence)
        tell("dark", sentence)
    elif settings.values == "scaled" and least < most < 2**depth >> (1 if depth == 16 else 2) and len(indices) > 1:
        tell(
            "dark",
            f"{dataset.name}: values reach {most:g} of {2**depth - 1:,}, so that all images are dark: for fewer bits "
            f"write `values = levels, bits = {int(most).bit_length()}`",
        )
    if least == most:
        many = "the image" if len(indices) == 1 else f"all {len(indices)} images"
        tell("constant", f"{dataset.name}: {many} looked at hold{'s' * (len(indices) == 1)} the single value {most:g}")


def _check_folders(parts: Mapping[str, Images], classes: int) -> None:
    """Refuse image folders that do not hold `classes` folders of the same names."""
    for images in parts.values():
        if not isinstance(images, ImageFiles):
            continue
        if len(images.classes) != classes:
            names = ", ".join(images.classes[:10]) + (", …" if len(images.classes) > 10 else "")
            held = (
                f"{len(images.classes)} folders, one per class, which are {names}"
                if images.classes
                else "no folder per class"
            )
            raise DataError(f"`data.classes` is {classes}, and the images are in {held}: make the two agree")
        if images.unclassed is not None:
            raise DataError(
                f"{images.unclassed} is in none of the classes' folders, which are {', '.join(images.classes)}: move "
                "it into one, or leave out `data.classes`"
            )
