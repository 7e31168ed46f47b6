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
from hvdsl.runtime.data import DataError, open_given, open_splits
from hvdsl.runtime.data.arrays import read_npz
from hvdsl.runtime.data.errors import optional
from hvdsl.runtime.data.mat5 import check_mat5
from hvdsl.runtime.data.packed import is_encoded
from hvdsl.runtime.data.published import read_idx, read_mat


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
    ("raw", "message"),
    [
        (b"\0\0\x0d\1", "not an IDX file of bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"not what its sizes \(2, 3\)"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "x-ubyte"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
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


def test_what_says_the_classes_is_called_by_its_name(tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(np.ones((3, 8, 8), np.uint8)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.full(3, 7, np.uint8)))
    train = open_splits(published("mnist", (1, 8, 8), classes=5), tmp_path).train
    with pytest.raises(DataError, match=r"`label` of image 0 of .*train-images-idx3-ubyte is 7"):
        train.conditioned([0], ["label"])
    assert train.fields["label"].place == "the file of labels train-labels-idx1-ubyte"
    np.savez(tmp_path / "x.npz", images=np.ones((3, 8, 8), np.uint8), fine_labels=np.zeros(3, np.int64))
    train = open_splits(published("arrays", (1, 8, 8), classes=5), tmp_path / "x.npz").train
    assert train.fields["label"].place == "the array `fine_labels`"


def street_numbers(path: Path, count: int, low: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A file in SVHN's form, its images (N, H, W, C) and its classes."""
    images = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    classes = (np.arange(count) % 10 + low).astype(np.uint8)
    pytest.importorskip("scipy.io").savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": classes[:, None]})
    return images, classes


def test_svhn_counts_its_class_10_as_0_and_says_so(tmp_path: Path) -> None:
    images, classes = street_numbers(tmp_path / "train_32x32.mat", 30)
    street_numbers(tmp_path / "test_32x32.mat", 11)
    street_numbers(tmp_path / "extra_32x32.mat", 12)
    splits = open_splits(published("images", (3, 8, 8), classes=10), tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (29, 1, 11)
    assert splits.summary == (
        "41 images (train 30, test 11); left out: extra_32x32.mat, whose name says no part; "
        "class 10 is the digit 0 and is counted as 0; 1 held out for validation"
    )
    alone = open_given(published("images", (3, 8, 8), classes=10), tmp_path / "train_32x32.mat")
    assert alone.name.startswith("30 train images of ")
    assert "the digit 0" in alone.name
    assert np.array_equal(alone.batch(range(30)), images.transpose(0, 3, 1, 2))
    labels = alone.labels(range(30))
    assert labels is not None
    assert labels.tolist() == (classes % 10).tolist()


def test_matlab_files_in_svhns_form_keep_classes_that_are_not_1_to_10(tmp_path: Path) -> None:
    _, classes = street_numbers(tmp_path / "train.mat", 30, low=0)
    labels = open_given(published("images", (3, 8, 8), classes=10), tmp_path / "train.mat").labels(range(30))
    assert labels is not None
    assert labels.tolist() == classes.tolist()


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"X": np.zeros((8, 8, 3, 4), np.uint8)}, "no `y` with a class for each of the 4 images"),
        ({"X": np.zeros((8, 8, 3, 4), np.uint8), "y": np.ones((3, 1))}, "no `y` with a class for each of the 4"),
        ({"X": np.zeros((8, 8, 3), np.uint8), "y": np.ones((3, 1))}, r"no array of bytes \(H, W, C, N\)"),
        ({"features": np.zeros((8, 8))}, "OMNIGLOT's `chardata.mat` is read.*SVHN's"),
    ],
)
def test_other_matlab_files_are_one_sentence(tmp_path: Path, stored: dict[str, Any], message: str) -> None:
    pytest.importorskip("scipy.io").savemat(tmp_path / "train.mat", stored)
    with pytest.raises(DataError, match=message):
        open_splits(published("images", (3, 8, 8)), tmp_path)


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


def test_a_bare_codestream_of_jpeg_2000_is_a_picture() -> None:
    assert is_encoded(encoded("jpeg2000", no_jp2=True))


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


@pytest.mark.parametrize(
    ("page", "sentence"), [(65536, "cut short: it has 131,072 bytes, its head says 655,360"), (131072, "damaged")]
)
def test_pages_of_lmdb_have_at_most_64_kibibytes(page: int, sentence: str, tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    meta = bytearray(65536)
    struct.pack_into("<II", meta, 16, 0xBEEFC0DE, 1)
    struct.pack_into("<I", meta, 40, page)
    struct.pack_into("<Q", meta, 136, 9)  # the last page
    (tmp_path / "x.lmdb").mkdir()
    (tmp_path / "x.lmdb" / "data.mdb").write_bytes(meta * 2)
    with pytest.raises(DataError, match=sentence):
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
    labels = splits.test.labels(range(3))
    assert labels is not None and labels.tolist() == [6, 7, 8]


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


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_that_are_not_what_their_tags_say_never_reach_scipy(tmp_path: Path, compressed: bool) -> None:
    """Which ends the process at some of them."""
    path = tmp_path / "train.mat"
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 3, 5), dtype=np.uint8)
    stored = {"notes": "of no concern", "X": images, "y": np.arange(1, 6)[:, None], "more": {"a": np.ones(3)}}
    pytest.importorskip("scipy.io").savemat(path, stored, do_compression=compressed)
    check_mat5(path, ["X", "y"])
    whole = path.read_bytes()
    with pytest.raises(DataError, match="`notes` is no array of real numbers"):
        check_mat5(path, ["notes"])
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(80):
        damaged = bytearray(whole)
        start = int(rng.integers(128, 128 + 96 if compressed else len(whole)))
        damaged[start : start + 4] = rng.bytes(4)
        path.write_bytes(damaged if rng.random() < 0.7 else damaged[:start])
        try:
            read_mat(path)
        except DataError:
            refused += 1
    assert refused > 20
    path.write_bytes(whole[:124] + b"\x00\x02IM" + whole[128:])
    with pytest.raises(DataError, match=r"version 7\.3: save it with"):
        read_mat(path)
