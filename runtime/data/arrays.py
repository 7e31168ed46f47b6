"""Images in one `.npy` or `.npz` file."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.dataset import Chain, Images
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.names import ALL, part_in
from hvdsl.runtime.data.picture import StoredImage

_log = logging.getLogger(__name__)

_LABELS = re.compile(r"(^|_)(labels?|y|targets?|classes|fine_labels)($|_)", re.IGNORECASE)
_NUMBER = re.compile(r"[-_]?(\d+)$")  # of a shard
_IMAGES = ("images", "image", "x", "data", "samples", "arr_0")
_LARGEST = 1 << 30  # bytes of a compressed member that may unfold to more than
_RATIO = 100  # times its size
_MEMBERS = 10_000
_HEADER = 10_000  # bytes


class Arrays:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) of any numbers. Files that are not compressed are memory-mapped.

    Args:
        channels: What the spec wants: it says which axis is that of the channels. None: the shorter one.
        fields: Other arrays of N rows, by name.
        labelled_by: What says the classes, for messages.
    """

    def __init__(
        self,
        name: str,
        images: NDArray[Any],
        labels: NDArray[np.int64] | None = None,
        *,
        channels: int | None = None,
        fields: Mapping[str, NDArray[Any]] | None = None,
        labelled_by: str = "the array `labels`",
    ) -> None:
        if images.dtype.kind not in "buif" or images.ndim not in (3, 4) or 0 in images.shape[1:]:
            raise DataError(
                f"{name} holds {images.dtype} of shape {images.shape}: images are numbers "
                "(N, H, W), (N, H, W, C) or (N, C, H, W), best uint8"
            )
        if len(images) == 0:
            raise DataError(f"{name} holds no images")
        if images.ndim == 3 and _is_one_image(images.shape, channels):
            raise DataError(
                f"{name} has shape {images.shape}: one image in colour, or {len(images)} grey ones of "
                f"{images.shape[1]}x{images.shape[2]}? Of one, `array[None]` makes (N, H, W, C); of grey ones, "
                "`array[..., None]`"
            )
        if labels is not None and labels.shape != (len(images),):
            raise DataError(f"{name} has {len(images)} images but labels of shape {labels.shape}")
        self.name_of_file, self.labelled_by = name, labelled_by
        self.fields: Mapping[str, NDArray[Any]] = fields or {}
        self._images, self._labels = images, labels
        self._planar = images.ndim == 4 and _is_planar(name, images.shape, channels)
        held = 1 if images.ndim == 3 else images.shape[1] if self._planar else images.shape[3]
        self._alpha = channels is not None and held != channels and held in (2, 4) and images.dtype.kind == "u"

    def __len__(self) -> int:
        return len(self._images)

    @property
    def stored(self) -> NDArray[Any]:
        """The array as it is in the file."""
        return self._images

    def image(self, index: int, epoch: int) -> StoredImage:
        image = np.asarray(self._images[index])
        if image.ndim == 2:
            return StoredImage(image[:, :, None])
        return StoredImage(image.transpose(1, 2, 0) if self._planar else image, self._alpha)

    def label(self, index: int) -> int | None:
        return None if self._labels is None else int(self._labels[index])

    def name(self, index: int) -> str:
        return f"image {index} of {self.name_of_file}"


def _is_one_image(shape: tuple[int, ...], channels: int | None) -> bool:
    """Whether an array of three axes looks like a single image in colour, not like grey ones."""
    if channels is None:
        return shape[2] in (3, 4) and shape[1] > shape[2]
    return channels > 1 and (shape[2] in (channels, channels + 1) or shape[0] == channels)


def _is_planar(name: str, shape: tuple[int, ...], channels: int | None) -> bool:
    """Whether the second axis is that of the channels, not the last: by the spec's, else by what channels can be."""
    for plausible in ((channels,), (1, 3), (2, 4)):
        second, last = shape[1] in plausible, shape[3] in plausible
        if second or last:
            return second and not last
    if channels is None:
        return shape[1] < shape[3]
    raise DataError(
        f"{name} has shape {shape}: neither its second nor its last axis is of {channels} channels, as `shape` says, "
        "nor of 1 or 3"
    )


def read_arrays(path: Path, channels: int | None = None) -> dict[str, Arrays]:
    """Return the arrays of a file by the part of the data they are (`all` where the name says none).

    An `.npz` may hold arrays whose names speak of `train`, `validation` and `test`, each with optional labels (`train`,
    `train_labels`; `x_train`, `y_train`); or one array of images with optional `labels`. Other arrays of as many rows
    are fields.

    Raises:
        DataError: not readable, not images, or an object array (which would need a pickle).
    """
    if path.suffix.lower() == ".npy":
        return {ALL: Arrays(str(path), read_npy(path), channels=channels)}
    return _parts(path, read_npz(path), channels)


def read_array_folder(files: Sequence[Path], channels: int | None) -> dict[str, Images] | None:
    """Return the parts that `.npy` and `.npz` files beside each other hold; None where each seems to be one image.

    They are read as one `.npz` would be whose arrays are called as the files. Files that differ in a number at their
    end (`x_train_0.npy`, `y_train_0.npy`, `x_train_1.npy`, …) are read one after the other.

    Raises:
        DataError: as `read_arrays`.
    """
    if not files or not (len(files) == 1 or any(_is_set(file) for file in files)):
        return None
    shards: dict[int, dict[str, NDArray[Any]]] = {}
    for file in files:
        number = _NUMBER.search(file.stem)
        stem = file.stem[: number.start()] if number else file.stem
        stored = {stem: read_npy(file)} if file.suffix.lower() == ".npy" else read_npz(file)
        if file.suffix.lower() == ".npz" and part_in(stem) and not any(map(part_in, stored)):
            stored = {f"{stem}_{key}": array for key, array in stored.items()}
        shard = shards.setdefault(int(number[1]) if number else -1, {})
        if repeated := shard.keys() & stored.keys():
            raise DataError(f"{file} and another file beside it both hold `{min(repeated)}`: give one of the two")
        shard |= stored
    place, parts = files[0].parent, dict[str, list[Images]]()
    for _, stored in sorted(shards.items()):
        for part, images in _parts(place, stored, channels).items():
            parts.setdefault(part, []).append(images)
    return {part: held[0] if len(held) == 1 else Chain(held) for part, held in parts.items()}


def _is_set(file: Path) -> bool:
    """Whether an array file holds many images, not one: by its name, or its four axes."""
    if file.suffix.lower() == ".npz" or part_in(file.stem) is not None or file.stem.lower() in ("images", "labels"):
        return True
    try:
        return read_npy(file).ndim == 4
    except DataError:
        return False


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an `.npy` file, memory-mapped.

    Raises:
        DataError: damaged, or it holds Python objects.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises almost anything of damaged headers
        objects = "it holds Python objects, which would be executed" if "object" in str(error).lower() else error
        raise DataError(f"{path} cannot be read as an array file: {objects}") from error
    return array


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file: memory-mapped where they are not compressed.

    Raises:
        DataError: damaged, with Python objects in it, or absurdly large once unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                raise DataError(f"{path} holds {len(members):,} members: an array file has at most {_MEMBERS:,}")
            arrays = [m for m in members if m.filename.endswith(".npy")]
            return {m.filename.removesuffix(".npy"): _member(path, archive, m) for m in arrays}
    except DataError:
        raise
    except Exception as error:  # of damaged archives: BadZipFile, zlib.error, struct.error, NotImplementedError …
        raise DataError(f"{path} cannot be read as an array file: {error}") from error


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    what = f"{path}[{member.filename}]"
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_HEADER)
        head = file.tell()
        if dtype.hasobject:
            raise DataError(f"{what} cannot be read: it holds Python objects, which would be executed")
        size = dtype.itemsize
        for n in shape:
            size *= n
        if min(shape, default=1) < 0 or head + size != member.file_size:
            raise DataError(f"{what} cannot be read: it is cut short, or its head is wrong ({shape} of {dtype})")
        if member.compress_type == zipfile.ZIP_STORED and size:
            with path.open("rb") as raw:
                raw.seek(member.header_offset + 26)
                lengths = raw.read(4)
            start = member.header_offset + 30 + int.from_bytes(lengths[:2], "little")
            start += int.from_bytes(lengths[2:], "little") + head
            mapped: NDArray[Any] = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
            return mapped
        if size > _LARGEST and size > _RATIO * member.compress_size:
            raise DataError(f"{what} unfolds from {member.compress_size:,} to {size:,} bytes: it is not read")
        flat: NDArray[Any] = np.frombuffer(file.read(size), dtype)
        return flat.reshape(shape, order="F" if fortran else "C")


def _parts(path: Path, stored: Mapping[str, NDArray[Any]], channels: int | None) -> dict[str, Arrays]:
    of_part: dict[str, list[str]] = {}
    for key in stored:
        part = part_in(key)
        if part is not None and not _LABELS.search(key) and stored[key].ndim >= 3:
            of_part.setdefault(part, []).append(key)
    images = {part: _images_of(path, part, keys) for part, keys in of_part.items()}
    if not images:
        images = {ALL: _only(path, stored)}
    parts = {part: _one(path, stored, part, key, channels) for part, key in images.items()}
    read = {*images.values(), *(key for arrays in parts.values() for key in arrays.fields)}
    if left := [key for key, array in stored.items() if array.ndim >= 3 and key not in read and part_in(key) is None]:
        _log.warning("%s: left out: `%s`, whose name says no part", path, "`, `".join(left))
    return parts


def _images_of(path: Path, part: str, keys: Sequence[str]) -> str:
    """Of the arrays of a part that could be its images: `train` or `train_images`, beside which others are fields."""
    named = [key for key in keys if _field(key, part) in (key, *_IMAGES)] if len(keys) > 1 else keys
    if len(named) != 1:
        first, second = (named or keys)[:2]
        raise DataError(
            f"{path} holds `{first}` and `{second}`, both {part}: keep one of the two, or call the images `{part}` "
            f"and the others `{part}_NAME`"
        )
    return named[0]


def _only(path: Path, stored: Mapping[str, NDArray[Any]]) -> str:
    """The name of the one array of images in a file that has no parts."""
    candidates = [key for key in stored if not _LABELS.search(key)]
    named = [key for key in _IMAGES if key in candidates]
    shaped = [key for key in candidates if stored[key].ndim >= 3]
    if named or len(candidates) == 1 or len(shaped) == 1:
        return (named or (candidates if len(candidates) == 1 else shaped))[0]
    raise DataError(
        f"{path} holds {', '.join(sorted(stored)) or 'nothing'}: give one array `images` (with `labels` if there "
        "are classes), or arrays named train, validation and test"
    )


def _one(path: Path, stored: Mapping[str, NDArray[Any]], part: str, key: str, channels: int | None) -> Arrays:
    beside = {k: a for k, a in stored.items() if k != key and (part_in(k) or ALL) == part}
    called = [k for k in beside if _LABELS.search(k)]
    flat = [k for k in called if beside[k].ndim == 1 or beside[k].shape[1:] == (1,)]
    labels = next(iter([*flat, *(k for k in called if _LABELS.fullmatch(_field(k, part)))]), None)
    count = len(stored[key]) if stored[key].ndim else 0
    fields = {_field(k, part): a for k, a in beside.items() if k != labels and a.ndim and len(a) == count}
    name = str(path) if part == ALL and key in _IMAGES else f"{path}[{key}]"
    classes = _integers(path, beside.get(labels or ""))
    array = f"the array `{labels or 'labels'}`"
    return Arrays(name, stored[key], classes, channels=channels, fields=fields, labelled_by=array)


def _field(key: str, part: str) -> str:
    """`train_low` and `low_train` are the field `low`."""
    return "_".join(token for token in key.split("_") if part_in(token) != part) or key


def _integers(path: Path, labels: NDArray[Any] | None) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "iu":
        raise DataError(f"the labels in {path} are {labels.dtype}: classes are whole numbers from 0")
    if labels.ndim == 2 and labels.shape[1] == 1 and len(labels) > 1:
        labels = labels[:, 0]
    return labels.astype(np.int64)
