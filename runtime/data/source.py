"""What is at a place: which of the forms that are read, and its images by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.arrays import read_array_folder, read_arrays
from hvdsl.runtime.data.dataset import Images
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.folder import ImageFiles
from hvdsl.runtime.data.hub import hub_folder, is_hub_name
from hvdsl.runtime.data.listing import ARCHIVES, Listing, list_file, list_files
from hvdsl.runtime.data.names import ALL, PARTS, TEST, TRAIN, VALIDATION, is_hidden, part_in
from hvdsl.runtime.data.packed import TABLES, TARS, Lmdb, read_packed
from hvdsl.runtime.data.picture import UnreadableError, read_header
from hvdsl.runtime.data.published import (
    read_cifar10,
    read_idx_file,
    read_imagenet,
    read_mat,
    read_mat_files,
    read_mnist,
)
from hvdsl.runtime.data.shipped_data import digits, photos
from hvdsl.runtime.data.stored import SUFFIXES

SHIPPED = ("digits", "photos")
# What to do with files that are not read, by their suffixes; of those not named here a folder of images is all to say.
_NUMPY = "save its arrays with `numpy.save`"
_PICKLE = f"it may hold a pickle, which would be executed: {_NUMPY}"
_CONVERT = "convert it to PNG or TIFF"
_ADVICE = {
    **dict.fromkeys(ARCHIVES, "unpack it, and give the folder"),
    **dict.fromkeys((".h5", ".hdf5", ".fits", ".nii"), _NUMPY),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth"), _PICKLE),
    **dict.fromkeys((".tfrecord", ".tfrecords"), "write its pictures into a folder, or into tar files"),
    **dict.fromkeys((".csv", ".tsv"), f"of a table of pixels, {_NUMPY} as (N, H, W); of one beside images, give these"),
    **dict.fromkeys(
        (".heic", ".heif", ".dcm", ".dng", ".cr2", ".nef", ".svg", ".pdf", ".jxl", ".exr", ".ico"), _CONVERT
    ),
    **dict.fromkeys((".mp4", ".avi", ".mov"), "write its frames into a folder of pictures"),
}
_SNIFFED = 3  # files without a suffix that are looked into


@dataclass(frozen=True, slots=True)
class DataSource:
    """What was found at a place: images by part (`all` where nothing says the part).

    Attributes:
        note: What a user may not expect of it, to be told with the summary.
        place: Where it is on this machine.
    """

    parts: Mapping[str, Images]
    listing: Listing | None = None
    damaged: int = 0
    classes: tuple[str, ...] = field(default=())
    note: str = ""
    place: Path | None = None

    @property
    def summary(self) -> str:
        """`22 images in 3 folders (train 12, test 10); left out: 2 hidden`."""
        note = f"; {self.note}" if self.note else ""
        if self.listing is not None:
            return self.listing.sentence() + note
        counts = {part: len(images) for part, images in self.parts.items()}
        total = sum(counts.values())
        parts = "" if set(counts) == {ALL} else " (" + ", ".join(f"{p} {n:,}" for p, n in counts.items()) + ")"
        return f"{total:,} image{'' if total == 1 else 's'}{parts}{note}"


def find_source(settings: Data, path: Path | None = None, *, shaped: bool = True) -> DataSource:
    """Find the images that a `data` section names; only if it is `shaped` does its `shape` say how arrays are read.

    `path` (or the section's `source`) says where the files are: an image file, an `.npy`, `.npz`, `.mat` or `.lmdb`
    file, a folder of images (with folders for its parts, `.npy` files or `.lmdb` folders in it, or without), one with
    MNIST's files or ImageNet's batches, or for `cifar10` its unpacked archive; or the name of a data set on a hub,
    `hf://OWNER/NAME`. `digits` and `photos` ship.

    Raises:
        DataError: missing, damaged, or not what the section says.
    """
    place = path or (Path(settings.source) if settings.source and settings.source not in SHIPPED else None)
    name = settings.source if settings.source in SHIPPED else settings.name
    if name in SHIPPED and place is None:
        return DataSource(_shipped(name, settings))
    if name in SHIPPED:
        raise DataError(
            f"`{name}` ships with hvdsl and is not read from {place}: name the data `images` or `arrays` to use files"
        )
    if place is None:
        raise DataError(f"the data `{name}` does not ship with hvdsl: say where its files are with `--data PATH`")
    downloaded = hub_folder(place) if is_hub_name(place) else None
    place = place if downloaded is None else downloaded.path
    if not place.exists():
        raise DataError(f"{place} does not exist: `--data` is a folder of images, an .npy or .npz file")
    source = _from_files(name, place, settings.shape[0] if shaped else None)
    notes = [*([source.note] if source.note else []), *([downloaded.name] if downloaded is not None else [])]
    return replace(source, note="; ".join(notes), place=place)


def _shipped(name: str, settings: Data) -> dict[str, Images]:
    if name == "digits":
        train, test = digits()
        return {TRAIN: train, TEST: test}
    crops = settings.size_before_random_crop or settings.shape[1:]
    top, bottom, left, right = settings.borders
    size = (crops[0] - top - bottom, crops[1] - left - right)
    train, validation, test = photos(size, settings.split_seed)
    return {TRAIN: train, VALIDATION: validation, TEST: test}


def _from_files(name: str, place: Path, channels: int | None) -> DataSource:
    if name == "cifar10" and place.is_dir():
        train, test = read_cifar10(place)
        return DataSource({TRAIN: train, TEST: test})
    suffix = place.suffix.lower()
    if suffix == ".mat":
        read = read_mat(place)
        return DataSource(dict(read.parts), note=read.note)
    if suffix == ".lmdb" or (place / "data.mdb").is_file():
        return DataSource({ALL: Lmdb(place)})
    if place.is_dir():
        return _from_folder(place, channels)
    if suffix in (".npy", ".npz"):
        return DataSource(dict(read_arrays(place, channels)))
    if suffix in (*TARS, *TABLES):
        return DataSource(dict(read_packed(place) or {}))
    if suffix in SUFFIXES:
        return _from_listing(list_file(place))
    if (published := read_idx_file(place)) is not None:
        return DataSource(dict(published))
    if suffix in ARCHIVES:
        raise DataError(f"{place} is packed: {_ADVICE[suffix]}")
    if suffix in _ADVICE:
        raise DataError(f"{place} is not read: {_ADVICE[suffix]}")
    raise DataError(
        f"{place} is neither an image nor an .npy, .npz, .mat or .lmdb file: give one of these, or a folder of images"
    )


def _from_folder(place: Path, channels: int | None) -> DataSource:
    published = read_mnist(place) or read_imagenet(place)
    if published is not None:
        return DataSource(dict(published))
    pictures = _has_pictures(place)
    if not pictures and (packed := read_packed(place)) is not None:
        return _parted(dict(packed))
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
        return _parted(parts)
    matlab = sorted(p for p in place.iterdir() if p.suffix.lower() == ".mat" and p.is_file() and not is_hidden(p.name))
    if matlab and not files:
        read = read_mat_files(matlab)
        return _parted(read.parts, read.note)
    arrays = read_array_folder(files, channels)
    if arrays is not None:
        return _parted(arrays)
    return _from_listing(list_files(place))


def _parted(images: Mapping[str, Images], note: str = "") -> DataSource:
    """The images of files by part; what is in files that say no part, beside others that do, is for training or not."""
    parts = {part: images[part] for part in (*PARTS, ALL) if part in images}
    rest = parts.pop(ALL, None)
    if rest is None or not parts:
        return DataSource(parts if rest is None else {ALL: rest}, note=note)
    if TRAIN not in parts:
        return DataSource({TRAIN: rest, **parts}, note=note)
    left = f"left out: {len(rest):,} images of files whose names say no part"
    return DataSource(parts, note="; ".join(text for text in (left, note) if text))


def _has_pictures(place: Path) -> bool:
    """Whether there is a picture in a folder, at whatever depth."""
    pictures = SUFFIXES - {".npy"}
    return any(path.suffix.lower() in pictures and not is_hidden(path.name) for path in place.rglob("*"))


def _from_listing(listing: Listing) -> DataSource:
    damaged = [record for record in listing.records if record.kind.startswith("damaged")]
    if not listing.taken and not damaged:
        raise DataError(
            f"{listing.root} holds no .png, .jpg or other image files{f' ({listing.left})' if listing.left else ''}: "
            f"{_advice(listing)}"
        )
    if not listing.taken:
        raise DataError(
            f"none of the {len(damaged)} image files in {listing.root} can be read: {damaged[0].name}: "
            f"{damaged[0].left_out}"
        )
    classes = listing.classes
    parts = {
        part: ImageFiles(listing.root, listing.of(part), [r for r in damaged if r.part == part], classes)
        for part in listing.parts
    }
    return DataSource(dict(parts), listing, len(damaged), classes)


def _advice(listing: Listing) -> str:
    """What to do where none of the files of a folder is read."""
    left = [record for record in listing.records if record.left_out]
    known = [record for record in left if record.path.suffix.lower() in _ADVICE]
    if known:
        return f"as for {known[0].name}, {_ADVICE[known[0].path.suffix.lower()]}"
    if any(record.kind.startswith("of colour space") for record in left):
        return "convert them to RGB"
    for record in [record for record in left if not record.path.suffix and record.path.is_file()][:_SNIFFED]:
        try:
            read_header(record.path)
        except UnreadableError:
            continue
        return f"{record.name} is a picture without a suffix: let the names of pictures end in `.png`, `.jpg`, …"
    return "give the folder that the images are in"
