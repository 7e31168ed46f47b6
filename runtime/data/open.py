"""Find the data that a spec names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hvdsl.compiler.settings import LABEL, Data
from hvdsl.runtime.data.arrays import Arrays, read_array_folder, read_arrays
from hvdsl.runtime.data.cifar10 import read_cifar10
from hvdsl.runtime.data.conditions import Absent, Unopened, open_fields
from hvdsl.runtime.data.dataset import Dataset, Images, Splits, Subset, Teller, holdout_split
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.folder import Folder
from hvdsl.runtime.data.idx import read_idx_file, read_mnist
from hvdsl.runtime.data.imagenet import read_imagenet
from hvdsl.runtime.data.listing import Listing, list_file, list_files
from hvdsl.runtime.data.lmdb import Lmdb
from hvdsl.runtime.data.mat import read_mat
from hvdsl.runtime.data.names import ALL, PARTS, TEST, TRAIN, VALIDATION, is_hidden, part_in
from hvdsl.runtime.data.packed import TABLES, TARS, read_packed
from hvdsl.runtime.data.shipped_data import digits, photos
from hvdsl.runtime.data.stored import SUFFIXES

_DEFAULT_HOLDOUT = 0.1
_SHIPPED = ("digits", "photos")
_ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_PROBES = 32  # images of each part that are decoded when data is opened


@dataclass(frozen=True, slots=True)
class Source:
    """What was found at a place: images by part (`all` where nothing says the part)."""

    parts: Mapping[str, Images]
    listing: Listing | None = None
    damaged: int = 0
    classes: tuple[str, ...] = field(default=())

    @property
    def summary(self) -> str:
        """`22 images in 3 folders (train 12, test 10); left out: 2 hidden`."""
        if self.listing is not None:
            return self.listing.sentence()
        counts = {part: len(images) for part, images in self.parts.items()}
        total = sum(counts.values())
        parts = "" if set(counts) == {ALL} else " (" + ", ".join(f"{p} {n:,}" for p, n in counts.items()) + ")"
        return f"{total:,} image{'' if total == 1 else 's'}{parts}"


def find_source(settings: Data, path: Path | None = None, *, shaped: bool = True) -> Source:
    """Find the images that a `data` section names; only if it is `shaped` does its `shape` say how arrays are read.

    `path` (or the section's `source`) says where the files are: an image file, an `.npy`, `.npz`, `.mat` or `.lmdb`
    file, a folder of images (with folders for its parts, `.npy` files or `.lmdb` folders in it, or without), one with
    MNIST's files or ImageNet's batches, or for `cifar10` its unpacked archive. `digits` and `photos` ship.

    Raises:
        DataError: missing, damaged, or not what the section says.
    """
    place = path or (Path(settings.source) if settings.source and settings.source not in _SHIPPED else None)
    name = settings.source if settings.source in _SHIPPED else settings.name
    if name in _SHIPPED and place is None:
        return Source(_shipped(name, settings))
    if name in _SHIPPED:
        raise DataError(
            f"`{name}` ships with hvdsl and is not read from {place}: name the data `images` or `arrays` to use files"
        )
    if place is None:
        raise DataError(f"the data `{name}` does not ship with hvdsl: say where its files are with `--data PATH`")
    if not place.exists():
        raise DataError(f"{place} does not exist: `--data` is a folder of images, an .npy or .npz file")
    return _from_files(name, place, settings.shape[0] if shaped else None)


def open_data(
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
    held_out = validation is None or bool(settings.holdout)
    if held_out:
        if len(train) == 1 and not settings.holdout:
            raise DataError(f"{path or settings.name} has one training image and none for validation: give more images")
        holdout = settings.holdout or max(1, round(_DEFAULT_HOLDOUT * len(train)))
        kept, held_indices = holdout_split(len(train), holdout, settings.split_seed)
        train, validation = Subset(train, kept), Subset(train, held_indices)
    assert validation is not None  # held out, or found
    name, tell = settings.source if settings.source in _SHIPPED else settings.name, Teller()

    def dataset(title: str, images: Images, *, training: bool = False) -> Dataset:
        stored = images.images if isinstance(images, Subset) else images
        where = path or (Path(settings.source) if settings.source else None)
        fields = open_fields(settings, stored, where, classes)
        return Dataset(title, images, settings, training=training, tell=tell, fields=fields)

    splits = Splits(
        dataset(name, train, training=True),
        dataset(f"{name} (validation)", validation),
        dataset(f"{name} (test)", parts.get(TEST, validation)),
        source.summary + (f"; {len(validation):,} held out for validation" if held_out else ""),
        source.classes,
    )
    for images in source.parts.values():
        if isinstance(images, Folder | Lmdb):
            images.check(settings)
    for split in (splits.train, splits.validation, splits.test):
        probe(split, settings, tell, strict=split is splits.train)
    return splits


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
        classes: As of `open_data`.

    Raises:
        DataError: as `open_data`; or there is no such part.
    """
    if path is None:
        part = split or default
        splits = open_data(settings, noted, classes)
        dataset: Dataset = getattr(splits, part)
        dataset.name = f"{len(dataset):,} {part} images"
        return dataset
    settings = of_other_images(settings)
    source = find_source(settings, path)
    if split is not None and set(source.parts) == {ALL}:
        splits = open_data(settings, path, classes)
        dataset = getattr(splits, split)
        dataset.name = f"{len(dataset):,} {split} images of {path}, as `holdout` divides it"
        return dataset
    part = _part(source, path, split)
    images = source.parts[part]
    if isinstance(images, Folder):
        images = images.without_replacements()
    which = "" if part == ALL else f"{part} "
    count = f"{len(images):,} {which}image{'' if len(images) == 1 else 's'}"
    tell = Teller()
    if settings.classes is not None and LABEL in classes:
        images = _among(images, classes[LABEL])
    elif settings.classes is not None and isinstance(images, Folder):
        images = _in_classes(images, settings, noted)
    left = source.listing.left if source.listing is not None else ""
    title = f"{count} of {path}" + (f"; {left}" if left else "")
    whole = noted if noted is not None and path.resolve().is_relative_to(noted.resolve()) else None
    fields = open_fields(settings, images, path, classes, whole)
    droppable = {condition.name for condition in settings.conditions if condition.drop}
    fields |= {n: Absent() for n, field in fields.items() if isinstance(field, Unopened) and n in droppable}
    dataset = Dataset(title, images, settings, training=False, tell=tell, fields=fields)
    if isinstance(images, Folder | Lmdb):
        images.check(settings)
    probe(dataset, settings, tell, strict=False)
    dataset.name += "".join(_without(dataset, settings))
    return dataset


def _part(source: Source, path: Path, split: str | None) -> str:
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
    return images.with_classes(classes) if isinstance(images, Folder) and images.classes else images


def _in_classes(images: Folder, settings: Data, noted: Path | None) -> Folder:
    """Count the classes of other images as those of the data that a model was trained on, by the names of folders."""
    try:
        names = find_source(settings, noted).classes
    except DataError:  # it is not where it was: the order of the same number of folders is all there is to go by
        names = images.classes if len(images.classes) == settings.classes else ()
    return images.with_classes(names) if images.classes else images


def of_other_images(settings: Data) -> Data:
    """The settings for other images than those that ship: under the name `images`."""
    if settings.name not in _SHIPPED and settings.source not in _SHIPPED:
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
    least, most, depth, brightest = np.inf, -np.inf, 0, 0  # depth: bits of the stored numbers
    for index in indices:
        raster = dataset.images.image(index, 0)
        colours = raster.values[:, :, :-1] if raster.alpha else raster.values
        if float(colours.max()) > most:
            most, brightest = float(colours.max()), index
        least = min(least, float(colours.min()))
        depth = max(depth, 8 * colours.dtype.itemsize if colours.dtype.kind == "u" else 0)
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
        tell("constant", f"{dataset.name}: all {len(indices)} images looked at hold the single value {most:g}")


def _shipped(name: str, settings: Data) -> dict[str, Images]:
    if name == "digits":
        train, test = digits()
        return {TRAIN: train, TEST: test}
    crops = settings.size_before_random_crop or settings.shape[1:]
    top, bottom, left, right = settings.borders
    size = (crops[0] - top - bottom, crops[1] - left - right)
    train, validation, test = photos(size, settings.split_seed)
    return {TRAIN: train, VALIDATION: validation, TEST: test}


def _from_files(name: str, place: Path, channels: int | None) -> Source:
    if name == "cifar10" and place.is_dir():
        train, test = read_cifar10(place)
        return Source({TRAIN: train, TEST: test})
    suffix = place.suffix.lower()
    if suffix == ".mat":
        return Source(dict(read_mat(place)))
    if suffix == ".lmdb" or (place / "data.mdb").is_file():
        return Source({ALL: Lmdb(place)})
    if place.is_dir():
        return _from_folder(place, channels)
    if suffix in (".npy", ".npz"):
        return Source(dict(read_arrays(place, channels)))
    if suffix in (*TARS, *TABLES):
        return Source(dict(read_packed(place) or {}))
    if suffix in SUFFIXES:
        return _from_listing(list_file(place))
    if (published := read_idx_file(place)) is not None:
        return Source(dict(published))
    if suffix in _ARCHIVES:
        raise DataError(f"{place} is packed: unpack it, and give the folder")
    raise DataError(
        f"{place} is neither an image nor an .npy, .npz, .mat or .lmdb file: give one of these, or a folder of images"
    )


def _from_folder(place: Path, channels: int | None) -> Source:
    published = read_mnist(place) or read_imagenet(place)
    if published is not None:
        return Source(dict(published))
    pictures = _has_pictures(place)
    if not pictures and (packed := read_packed(place)) is not None:
        return Source(dict(packed))
    files = sorted(
        p for p in place.iterdir() if p.suffix.lower() in (".npy", ".npz") and p.is_file() and not is_hidden(p.name)
    )
    databases = sorted(p for p in place.glob("*.lmdb") if not is_hidden(p.name))
    if pictures:
        named = [p.name for p in (*files, *databases) if part_in(p.stem) is not None]
        if named:
            raise DataError(
                f"{place} holds pictures, and also {named[0]}, which is called as a part of the data: give "
                f"`--data {place / named[0]}`, or a folder of pictures without it"
            )
        return _from_listing(list_files(place))
    if databases:
        parts: dict[str, Images] = {}
        for database in databases:
            part = part_in(database.stem) or ALL
            if part in parts:
                raise DataError(f"{place} holds several files of the same part, as {database.name}: give one of them")
            parts[part] = Lmdb(database)
        return Source({part: parts[part] for part in (*PARTS, ALL) if part in parts})
    arrays = read_array_folder(files, channels)
    if arrays is not None:
        return Source({part: arrays[part] for part in (*PARTS, ALL) if part in arrays})
    return _from_listing(list_files(place))


def _has_pictures(place: Path) -> bool:
    """Whether there is a picture in a folder, at whatever depth."""
    pictures = SUFFIXES - {".npy"}
    return any(path.suffix.lower() in pictures and not is_hidden(path.name) for path in place.rglob("*"))


def _from_listing(listing: Listing) -> Source:
    damaged = [record for record in listing.records if record.kind.startswith("damaged")]
    if not listing.taken and not damaged:
        raise DataError(
            f"{listing.root} holds no .png, .jpg or other image files{f' ({listing.left})' if listing.left else ''}: "
            "give the folder that the images are in"
        )
    if not listing.taken:
        raise DataError(
            f"none of the {len(damaged)} image files in {listing.root} can be read: {damaged[0].name}: "
            f"{damaged[0].left_out}"
        )
    classes = listing.classes
    parts = {
        part: Folder(listing.root, listing.of(part), [r for r in damaged if r.part == part], classes)
        for part in listing.parts
    }
    return Source(dict(parts), listing, len(damaged), classes)


def _check_folders(parts: Mapping[str, Images], classes: int) -> None:
    """Refuse image folders that do not hold `classes` folders of the same names."""
    for images in parts.values():
        if not isinstance(images, Folder):
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


__all__ = ["Arrays", "Source", "find_source", "open_data", "open_given", "probe"]
