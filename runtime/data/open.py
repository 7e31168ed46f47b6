"""Find the data that a spec names."""

from __future__ import annotations

from pathlib import Path

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.arrays import read_arrays
from hvdsl.runtime.data.cifar10 import read_cifar10
from hvdsl.runtime.data.dataset import DataError, Dataset, Images, Splits, Subset, holdout_split
from hvdsl.runtime.data.folder import Folder
from hvdsl.runtime.data.idx import read_mnist
from hvdsl.runtime.data.lmdb import Lmdb
from hvdsl.runtime.data.mat import read_mat
from hvdsl.runtime.data.shipped_data import digits, photos

_DEFAULT_HOLDOUT = 0.1
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("valid", "validation", "val"),
    "test": ("test",),
}


def open_data(settings: Data, path: Path | None = None) -> Splits:
    """Open the training, validation and test images that a `data` section names.

    `path` (or the section's `source`) says where the files are: an `.npy`, `.npz`, `.mat` or `.lmdb` file, a folder of
    images (with `train`, `valid` and `test` folders, `.npy` files or `.lmdb` folders in it, or without), one with
    MNIST's files, or for `cifar10` its unpacked archive.
    `digits` and `photos` ship and take no path. Where the data has no validation images of its own, `holdout` of the
    training images (default a tenth) are held out; where it has no test images, the validation images serve.

    Raises:
        DataError: missing, damaged, or not what the section says: of each split the first image is read.
    """
    place = path or (Path(settings.source) if settings.source and settings.source not in ("digits", "photos") else None)
    name = settings.source if settings.source in ("digits", "photos") else settings.name
    if name in ("digits", "photos"):
        if place is not None:
            raise DataError(
                f"`{name}` ships with hvdsl and is not read from {place}: "
                "name the data `images` or `arrays` to use files"
            )
        found = _shipped(name, settings)
    elif place is None:
        raise DataError(f"the data `{name}` does not ship with hvdsl: say where its files are with `--data PATH`")
    elif not place.exists():
        raise DataError(f"{place} does not exist: `--data` is a folder of images, an .npy or .npz file")
    else:
        found = _from_files(name, place)
    if settings.classes is not None:
        _check_folders(found, settings.classes)
    return _split(name, found, settings)


def _shipped(name: str, settings: Data) -> dict[str, Images]:
    if name == "digits":
        train, test = digits()
        return {"train": train, "test": test}
    size = settings.resize or settings.shape[1:]
    train, validation, test = photos(size, settings.split_seed)
    return {"train": train, "validation": validation, "test": test}


def _from_files(name: str, place: Path) -> dict[str, Images]:
    if name == "cifar10" and place.is_dir():
        train, test = read_cifar10(place)
        return {"train": train, "test": test}
    if place.suffix == ".mat":
        return dict(read_mat(place))
    if place.suffix == ".lmdb":
        return {"train": Lmdb(place)}
    if place.is_file():
        if place.suffix not in (".npy", ".npz"):
            raise DataError(
                f"{place} is not an .npy, .npz, .mat or .lmdb file: give one of these, or a folder of images"
            )
        return {"train" if split == "all" else split: images for split, images in read_arrays(place).items()}
    return _from_folder(place)


def _from_folder(place: Path) -> dict[str, Images]:
    mnist = read_mnist(place)
    if mnist is not None:
        return dict(mnist)
    found: dict[str, Images] = {}
    files = sorted(place.glob("*.npy"))
    for split, names in _SPLIT_FOLDERS.items():
        folder = next((place / name for name in names if (place / name).is_dir()), None)
        file = next((f for f in files for name in names if name in f.stem.replace("_", "-").split("-")), None)
        lmdb = next((f for name in names if (f := place / f"{name}.lmdb").exists()), None)
        if lmdb is not None:
            found[split] = Lmdb(lmdb)
        elif folder is not None:
            train = found.get("train")
            found[split] = Folder(folder, train.classes if isinstance(train, Folder) else None)
        elif file is not None:
            found[split] = read_arrays(file)["all"]
    if "train" in found:
        return found
    if found:
        raise DataError(f"{place} has {' and '.join(found)} images but none to train on: add a `train` folder or file")
    if len(files) == 1:
        return {"train": read_arrays(files[0])["all"]}
    return {"train": Folder(place)}


def _check_folders(found: dict[str, Images], classes: int) -> None:
    """Refuse image folders that do not hold `classes` folders of the same names."""
    for images in found.values():
        if not isinstance(images, Folder):
            continue
        if len(images.classes) != classes:
            held = f"{len(images.classes)} folders, one per class" if images.classes else "no folder per class"
            raise DataError(f"the images are in {held}, and `data.classes` is {classes}: make the two agree")
        if images.unclassed is not None:
            raise DataError(
                f"{images.unclassed} is in none of the classes' folders, which are {', '.join(images.classes)}: move "
                "it into one, or leave out `data.classes`"
            )


def _split(name: str, found: dict[str, Images], settings: Data) -> Splits:
    train, validation = found["train"], found.get("validation")
    if validation is None or settings.holdout:
        kept, held = holdout_split(len(train), settings.holdout or _DEFAULT_HOLDOUT, settings.split_seed)
        train, validation = Subset(train, kept), Subset(train, held)
    splits = Splits(
        Dataset(name, train, settings, training=True),
        Dataset(f"{name} (validation)", validation, settings, training=False),
        Dataset(f"{name} (test)", found.get("test", validation), settings, training=False),
    )
    for split in (splits.train, splits.validation, splits.test):
        split.batch(range(min(1, len(split))))  # what does not fit the spec is told before anything is written
    return splits
