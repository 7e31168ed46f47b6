"""Named data sets in the files in which their makers publish them: MNIST, CIFAR-10, OMNIGLOT, SVHN, small ImageNet."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.arrays import Arrays, read_npz
from hvdsl.runtime.data.errors import DataError, optional
from hvdsl.runtime.data.mat5 import check_mat5
from hvdsl.runtime.data.names import ALL, TEST, TRAIN, part_in
from hvdsl.runtime.data.picture import StoredImage
from hvdsl.runtime.data.plain_pickle import RefusedError, read_plain

_LARGEST_IDX = 1 << 31  # bytes of a file: forty times MNIST
_IDX_BYTES = 0x08  # the type code of unsigned bytes
_IDX_PARTS = {"train": TRAIN, "t10k": TEST, "test": TEST}
_IDX_FILE = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an IDX file of bytes: big-endian sizes, then the values in row-major order.

    Raises:
        DataError: not readable, of another type than unsigned bytes, or shorter or longer than its sizes say.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _IDX_BYTES:
                raise DataError(f"{path} is not an IDX file of bytes: download it again")
            sizes = file.read(4 * head[3])
            shape = struct.unpack(f">{head[3]}I", sizes) if len(sizes) == 4 * head[3] else ()
            count = math.prod(shape)
            if count > _LARGEST_IDX:
                raise DataError(f"{path} says that it holds {shape} bytes, which is not believed: download it again")
            raw = file.read(count + 1)  # of a compressed file no more is unpacked than its sizes say
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not shape or len(raw) != count:
        raise DataError(f"{path} holds {len(raw)} bytes, not what its sizes {shape} say: download it again")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def read_mnist(root: Path) -> dict[str, Arrays] | None:
    """Return the training and test images of a folder with MNIST's four files (or two, without labels), else None.

    Whatever stands before `train-images-idx3-ubyte` (EMNIST's `emnist-letters-`) has to be the same before all four.

    Raises:
        DataError: a file is damaged, the test images are missing, or there are files of several sets.
    """
    for folder in (root, root / "raw", root / "MNIST" / "raw"):
        images = {(name.set, name.part): path for path, name in _named(folder) if name.holds == "images"}
        sets = sorted({name for name, part in images if part == TRAIN})
        if len(sets) > 1:
            raise DataError(f"{folder} holds files of several sets, {', '.join(sets)}: keep those of one of them")
        if sets and (sets[0], TEST) not in images:
            missing = f"{sets[0]}t10k-images-idx3-ubyte"
            raise DataError(f"{folder} has no {missing}: put MNIST's test files beside the others")
        if sets:
            return {part: _with_labels(images[sets[0], part]) for part in (TRAIN, TEST)}
    return None


def read_idx_file(path: Path) -> dict[str, Arrays] | None:
    """Return the images of one IDX file under its published name, with the labels beside it; None for other names."""
    name = _idx_name(path)
    return None if name is None or name.holds != "images" else {ALL: _with_labels(path)}


class _IdxName(NamedTuple):
    """What the published name of an IDX file says: what stands before the part, the part, and `images` or `labels`."""

    set: str
    part: str
    holds: str


def _idx_name(path: Path) -> _IdxName | None:
    match = _IDX_FILE.fullmatch(path.name)
    return None if match is None else _IdxName(match[1], _IDX_PARTS[match[2]], match[3])


def _named(folder: Path) -> list[tuple[Path, _IdxName]]:
    """The files of a folder under such names, uncompressed ones last: they are taken where both are there."""
    if not folder.is_dir():
        return []
    files = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: (p.suffix != ".gz", p.name))
    return [(path, name) for path in files if (name := _idx_name(path)) is not None]


def _with_labels(images: Path) -> Arrays:
    own = _idx_name(images)
    wanted = own and own._replace(holds="labels")
    labels = [path for path, name in _named(images.parent) if name == wanted]
    classes = read_idx(labels[-1]).astype(np.int64) if labels else None
    named = labels[-1].name if labels else images.name.replace("images", "labels").replace("idx3", "idx1")
    return Arrays(str(images), read_idx(images), classes, labelled_by=f"the file of labels {named}")


CifarBatch: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (N, 3072) and labels (N,)

_CIFAR_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_CIFAR_RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue planes


def read_cifar10(root: Path) -> tuple[Arrays, Arrays]:
    """Return the 50,000 training and 10,000 test images.

    `root` is the unpacked folder (`cifar-10-batches-bin` or `cifar-10-batches-py`) or the one that holds it.

    Raises:
        DataError: a batch is missing, or is not what that release contains.
    """
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
        if (folder / "data_batch_1.bin").is_file():
            return _join(folder, _CIFAR_TRAIN, _binary, ".bin"), _join(folder, ("test_batch",), _binary, ".bin")
        if (folder / "data_batch_1").is_file():
            return _join(folder, _CIFAR_TRAIN, _python, ""), _join(folder, ("test_batch",), _python, "")
    raise DataError(
        f"{root} holds neither cifar-10-batches-bin nor cifar-10-batches-py: unpack the CIFAR-10 archive there"
    )


def _join(folder: Path, names: tuple[str, ...], read: Callable[[Path], CifarBatch], suffix: str) -> Arrays:
    parts = []
    for name in names:
        path = folder / (name + suffix)
        try:
            images, labels = read(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if len(images) == 0 or len(images) != len(labels):
            raise DataError(f"{path} is not a CIFAR-10 batch: {len(images)} images and {len(labels)} labels")
        parts.append((images.reshape(-1, 3, 32, 32), labels))
    return Arrays(str(folder), np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _binary(path: Path) -> CifarBatch:
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    if raw.size % _CIFAR_RECORD:
        raise DataError(
            f"{path} is not a CIFAR-10 batch: {raw.size} bytes, not a multiple of {_CIFAR_RECORD}; unpack the "
            "archive again"
        )
    records = raw.reshape(-1, _CIFAR_RECORD)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _python(path: Path) -> CifarBatch:
    try:
        stored = read_plain(path.read_bytes())
    except RefusedError as error:
        raise DataError(f"{path} is not a CIFAR-10 batch: it contains {error}, which is not read") from error
    match stored:
        case {"data": np.ndarray() as images, "labels": list(labels)} if images.ndim == 2 and images.shape[1] == 3072:
            if all(isinstance(label, int) and 0 <= label < 10 for label in labels) and images.dtype == np.uint8:
                return images, np.asarray(labels, np.int64)
    raise DataError(f"{path} is not a CIFAR-10 batch: it should hold `data` (N, 3072) bytes and `labels` 0 to 9")


_IMAGENET_BATCHES = 10


class ImagenetBatches:
    """Images of several files, each (N, 3 · side · side) bytes, the planes of an image one after the other."""

    labelled_by = "the arrays `labels`"

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._images, self._labels = zip(*(_imagenet_batch(path) for path in paths), strict=True)
        self._ends = np.cumsum([len(images) for images in self._images])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def image(self, index: int, epoch: int) -> StoredImage:
        file, row = self._place(index)
        flat = np.asarray(self._images[file][row])
        side = math.isqrt(flat.size // 3)
        return StoredImage(flat.reshape(3, side, side).transpose(1, 2, 0))

    def label(self, index: int) -> int | None:
        file, row = self._place(index)
        return int(self._labels[file][row]) - 1  # the files count classes from 1

    def name(self, index: int) -> str:
        file, row = self._place(index)
        return f"image {row} of {self._paths[file].name}"

    def _place(self, index: int) -> tuple[int, int]:
        file = int(np.searchsorted(self._ends, index, side="right"))
        return file, index - (int(self._ends[file - 1]) if file else 0)


def read_imagenet(root: Path) -> dict[str, ImagenetBatches] | None:
    """Return the training and the validation images (which papers report as test) of a folder with
    `train_data_batch_1.npz` to `…_10.npz` and `val_data.npz`, or None if they are not there.

    Raises:
        DataError: some are missing or damaged.
    """
    names = [root / f"train_data_batch_{i}.npz" for i in range(1, _IMAGENET_BATCHES + 1)]
    held = root / "val_data.npz"
    there = [path for path in (*names, held) if path.is_file()]
    if not there:
        return None
    missing = [path.name for path in (*names, held) if path not in there]
    if missing:
        raise DataError(f"{root} has {there[0].name} but not {', '.join(missing)}: unpack all eleven files there")
    return {TRAIN: ImagenetBatches(names), TEST: ImagenetBatches([held])}


def _imagenet_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    stored = read_npz(path)
    images, labels = stored.get("data"), stored.get("labels")
    square = images is not None and images.ndim == 2 and 3 * math.isqrt(images.shape[1] // 3) ** 2 == images.shape[1]
    if images is None or labels is None or not square or images.dtype != np.uint8 or labels.shape != (len(images),):
        raise DataError(
            f"{path} is not a batch of downsampled ImageNet: it should hold `data` (N, 3072) and `labels` (N,)"
        )
    return images, labels.astype(np.int64)


_OMNIGLOT = {TRAIN: "data", TEST: "testdata"}
_SVHN = ("X", "y")
_TENTH = 10  # SVHN's class of the digit 0


class MatFile(NamedTuple):
    """The images of a MATLAB file by part, and what was done to them that a user may not expect."""

    parts: dict[str, Arrays]
    note: str = ""


def read_mat(path: Path) -> MatFile:
    """Return the images of a MATLAB file: OMNIGLOT's `chardata.mat` as Burda et al. (2016) cut it, or one of SVHN's.

    OMNIGLOT's characters are columns of (784, N) values from 0 to 1. SVHN (Netzer et al. 2011) has `X` (H, W, C, N) of
    bytes and classes `y` from 1 to 10, of which 10 is the digit 0; the file's name says the part.

    Raises:
        DataError: not readable, not such a file, or scipy is not installed.
    """
    scipy = optional("scipy.io", "mat", f"reading {path}")
    wanted = [*_OMNIGLOT.values(), *_SVHN]
    check_mat5(path, wanted)
    try:
        stored = scipy.loadmat(path, variable_names=wanted)
    except Exception as error:  # of damaged files scipy raises almost anything
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from error
    if "X" in stored:
        return _street_numbers(path, stored["X"], stored.get("y"))
    characters = {part: _characters(path, key, stored.get(key)) for part, key in _OMNIGLOT.items()}
    return MatFile({part: Arrays(f"{path}[{_OMNIGLOT[part]}]", images) for part, images in characters.items()})


def read_mat_files(files: Sequence[Path]) -> MatFile:
    """Return what `.mat` files beside each other hold, by the parts that their names say.

    Raises:
        DataError: as `read_mat`; or two of them are the same part.
    """
    if len(files) == 1:
        return read_mat(files[0])
    parts: dict[str, Arrays] = {}
    notes: list[str] = []
    for file in files:
        if part_in(file.stem) is None:  # SVHN's `extra_32x32.mat`
            notes.append(f"left out: {file.name}, whose name says no part")
            continue
        read = read_mat(file)
        if repeated := parts.keys() & read.parts.keys():
            raise DataError(f"{file} and another file beside it are both {min(repeated)}: give one of the two")
        parts |= read.parts
        notes += [read.note] if read.note else []
    if not parts:
        raise DataError(f"{files[0].parent} holds {len(files)} .mat files whose names say no part: give one of them")
    return MatFile(parts, "; ".join(dict.fromkeys(notes)))


def _street_numbers(path: Path, images: object, classes: object) -> MatFile:
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype != np.uint8:
        raise DataError(f"`X` in {path} is no array of bytes (H, W, C, N), as SVHN's is: save other arrays as .npz")
    if not isinstance(classes, np.ndarray) or classes.size != images.shape[3] or classes.dtype.kind not in "iuf":
        raise DataError(f"{path} has no `y` with a class for each of the {images.shape[3]:,} images in `X`")
    labels = classes.reshape(-1).astype(np.int64)
    tenth = int(labels.min()) >= 1 and int(labels.max()) == _TENTH
    part = part_in(path.stem) or ALL
    note = f"class {_TENTH} is the digit 0 and is counted as 0" if tenth else ""
    labels = labels % _TENTH if tenth else labels
    return MatFile({part: Arrays(str(path), images.transpose(3, 0, 1, 2), labels, labelled_by="the array `y`")}, note)


def _characters(path: Path, key: str, values: object) -> NDArray[np.uint8]:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fu":
        raise DataError(
            f"{path} has no array `{key}` of characters: of MATLAB files OMNIGLOT's `chardata.mat` is read, which "
            "holds `data` and `testdata`, and SVHN's, which hold `X` and `y`; save other arrays as .npz"
        )
    side = round(values.shape[0] ** 0.5)
    if side * side != values.shape[0] or not 0 <= float(values.min()) <= float(values.max()) <= 1:
        raise DataError(f"`{key}` in {path} is {values.shape}: each column is a square image of values from 0 to 1")
    images: NDArray[np.uint8] = np.rint(values.T * 255).astype(np.uint8).reshape(-1, side, side)
    return images.transpose(0, 2, 1)
