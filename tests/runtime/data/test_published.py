"""Data as others publish it: IDX, MATLAB and LMDB files, ImageNet's batches, arrays by their names; damaged files."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError, open_splits
from hvdsl.runtime.data.arrays import read_npz
from hvdsl.runtime.data.errors import optional
from hvdsl.runtime.data.packed import is_encoded
from hvdsl.runtime.data.published import read_idx


def published(name: str, shape: tuple[int, int, int], **more: Any) -> Data:
    return Data(name=name, shape=shape, holdout=1, **more)


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(("folder", "compressed"), [(".", True), ("MNIST/raw", False)])
def test_mnist(tmp_path: Path, folder: str, compressed: bool) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    images = np.arange(6 * 28 * 28).astype(np.uint8).reshape(6, 28, 28)
    for part, n in (("train", 6), ("t10k", 2)):
        for name, array in (("images-idx3", images[:n]), ("labels-idx1", np.arange(n, dtype=np.uint8))):
            raw = idx(array)
            path = place / f"{part}-{name}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(raw) if compressed else raw)
    splits = open_splits(published("mnist", (1, 32, 32), pad=2, classes=10), tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 1, 2)
    assert np.array_equal(splits.test.batch([1])[0, 0, 2:30, 2:30], images[1])
    labels = splits.test.labels([0, 1])
    assert labels is not None
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\0\0\x0d\1", "not an IDX file of bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"not what its sizes \(2, 3\)"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, raw: bytes, told: str) -> None:
    path = tmp_path / "x-ubyte"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=told):
        read_idx(path)
    damaged = tmp_path / "x-ubyte.gz"
    damaged.write_bytes(gzip.compress(raw)[:-9])
    with pytest.raises(DataError, match=r"cannot be read|not an IDX file"):
        read_idx(damaged)


def test_characters_are_stored_column_by_column(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    images = np.random.default_rng(0).random((5, 28, 28))
    columns = images.transpose(0, 2, 1).reshape(5, 784).T
    path = tmp_path / "chardata.mat"
    scipy.savemat(path, {"data": columns, "testdata": columns[:, :2]})
    splits = open_splits(published("omniglot", (1, 28, 28)), path)
    assert (len(splits.train), len(splits.test)) == (4, 2)
    assert np.array_equal(splits.test.batch([0, 1])[:, 0], np.rint(255 * images[:2]))
    scipy.savemat(path, {"data": columns * 300, "testdata": columns})
    with pytest.raises(DataError, match="values from 0 to 1"):
        open_splits(published("omniglot", (1, 28, 28)), path)


def test_lmdb_of_raw_bytes_and_of_image_files(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(images[2]).save(file, "png")
    for split, count in (("train", 3), ("validation", 2)):
        with lmdb.open(str(tmp_path / f"{split}.lmdb"), map_size=1 << 20) as env, env.begin(write=True) as transaction:
            for i in range(count):
                transaction.put(str(i).encode(), file.getvalue() if i == 2 else images[i].tobytes())
    splits = open_splits(Data(name="imagenet32", shape=(3, 8, 8)), tmp_path)
    assert (len(splits.train), len(splits.validation)) == (3, 2)
    assert np.array_equal(splits.train.batch([0, 1, 2]), images.transpose(0, 3, 1, 2))


def test_a_missing_package_is_named_with_the_way_to_it() -> None:
    with pytest.raises(
        DataError, match=r"needs `hvdsl_no_such_package`: install it with `pip install 'hvdsl\[lmdb\]'`"
    ):
        optional("hvdsl_no_such_package", "lmdb", "reading train.lmdb")


def settings(shape: tuple[int, int, int] = (3, 8, 8), **options: Any) -> Data:
    return Data(name="images", shape=shape, **options)


def encoded(form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Pillow.fromarray(image).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "bmp", "gif", "tiff", "ppm", "avif", "jpeg2000"])
def test_encoded_pictures_are_known_by_their_first_bytes(form: str) -> None:
    assert is_encoded(encoded(form))


def test_raw_pixels_are_not_taken_for_pictures() -> None:
    rng = np.random.default_rng(1)
    for start in (b"BM", b"RIFF", b"P6", b"\xff\xd8"):
        assert not is_encoded(start + rng.integers(128, 256, 3 * 8 * 8, dtype=np.uint8).tobytes())


def test_a_picture_whose_length_is_that_of_raw_pixels_is_a_picture(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    image = np.linspace(0, 255, 8 * 8 * 3).astype(np.uint8).reshape(8, 8, 3)
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "png")
    whole = file.getvalue()
    side = int((len(whole) / 3) ** 0.5) + 1
    whole += b"\0" * (3 * side * side - len(whole))  # decoders stop at the end of the picture
    with lmdb.open(str(tmp_path / "x.lmdb"), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        for i in range(4):
            transaction.put(str(i).encode(), whole)
    train = open_splits(settings(holdout=1), tmp_path / "x.lmdb").train
    assert np.array_equal(train.batch([0])[0], image.transpose(2, 0, 1))


def test_a_shortened_lmdb_file_is_a_sentence(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "x.lmdb"), map_size=1 << 22) as env, env.begin(write=True) as transaction:
        for i in range(50):
            transaction.put(str(i).encode(), bytes(8 * 8 * 3))
    file = tmp_path / "x.lmdb" / "data.mdb"
    whole = file.read_bytes()
    for length in (0, 100, 5000, len(whole) // 2):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut short|does not begin as one|damaged"):
            open_splits(settings(), tmp_path / "x.lmdb")


def test_imagenet_as_its_makers_publish_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (3, 3 * 8 * 8), dtype=np.uint8) for _ in range(11)]
    names = [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]
    for name, data in zip(names, batches, strict=True):
        np.savez(tmp_path / f"{name}.npz", data=data, labels=np.array([1, 1000, 7]), mean=data.mean(0))
    splits = open_splits(Data(name="imagenet32", shape=(3, 8, 8), holdout=3, classes=1000), tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (27, 3, 3)
    assert np.array_equal(splits.test.batch(range(3)).reshape(3, -1), batches[10])
    labels = splits.test.labels(range(3))
    assert labels is not None and labels.tolist() == [0, 999, 6]
    (tmp_path / "train_data_batch_4.npz").unlink()
    with pytest.raises(DataError, match=r"but not train_data_batch_4\.npz"):
        open_splits(Data(name="imagenet32", shape=(3, 8, 8)), tmp_path)


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_parts_by_the_names_of_arrays(tmp_path: Path, names: tuple[str, ...], save: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(9)[:, None]
    arrays = (images[:6], labels[:6], images[6:], labels[6:])
    save(tmp_path / "x.npz", **dict(zip(names, arrays, strict=True)))
    splits = open_splits(settings(holdout=1), tmp_path / "x.npz")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 1, 3)
    assert np.array_equal(splits.test.batch(range(3)), images[6:].transpose(0, 3, 1, 2))
    found = splits.test.labels(range(3))
    assert found is not None and found.tolist() == [6, 7, 8]


def test_damaged_array_files_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((4, 8, 8, 3), np.uint8))
    whole = path.read_bytes()
    for i in range(0, len(whole), 37):
        path.write_bytes(whole[:i])
        with pytest.raises(DataError):
            read_npz(path)
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 8, 8, 3)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", member.getvalue())
    with pytest.raises(DataError, match="cut short, or its head is wrong"):
        read_npz(path)


def test_an_absurdly_compressed_array_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    head = io.BytesIO()
    count = 8 << 10
    shape = (count, 512, 512, 1)
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        member.write(head.getvalue())
    raw = path.read_bytes()  # what the directory says of sizes is all that is read before it is refused
    size = len(head.getvalue())
    path.write_bytes(
        raw.replace(size.to_bytes(4, "little"), ((size + count * (1 << 18)) % (1 << 32)).to_bytes(4, "little"))
    )
    with pytest.raises(DataError, match=r"unfolds from|cut short|cannot be read"):
        read_npz(path)


def test_a_wrong_size_in_an_lmdb_file_is_found_at_the_start(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "x.lmdb"), map_size=1 << 22) as env, env.begin(write=True) as transaction:
        for i in range(100):
            transaction.put(str(i).encode(), bytes(3 * 9 * 9) if i == 61 else encoded("png"))
    with pytest.raises(DataError, match=r"image 61 of .* is 9x9.*`resize = 8x8`"):
        open_splits(settings(), tmp_path / "x.lmdb")
    assert len(open_splits(settings(resize=(8, 8)), tmp_path / "x.lmdb").train) == 90
