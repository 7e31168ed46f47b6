"""LMDB entries by their first bytes, ImageNet's batches, arrays by the names of their parts, and damaged files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError, open_data
from hvdsl.runtime.data.arrays import read_npz
from hvdsl.runtime.data.lmdb import is_encoded


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
    train = open_data(settings(holdout=1), tmp_path / "x.lmdb").train
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
            open_data(settings(), tmp_path / "x.lmdb")


def test_imagenet_as_its_makers_publish_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (3, 3 * 8 * 8), dtype=np.uint8) for _ in range(11)]
    names = [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]
    for name, data in zip(names, batches, strict=True):
        np.savez(tmp_path / f"{name}.npz", data=data, labels=np.array([1, 1000, 7]), mean=data.mean(0))
    splits = open_data(Data(name="imagenet32", shape=(3, 8, 8), holdout=3, classes=1000), tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (27, 3, 3)
    assert np.array_equal(splits.test.batch(range(3)).reshape(3, -1), batches[10])
    labels = splits.test.labels(range(3))
    assert labels is not None and labels.tolist() == [0, 999, 6]
    (tmp_path / "train_data_batch_4.npz").unlink()
    with pytest.raises(DataError, match=r"but not train_data_batch_4\.npz"):
        open_data(Data(name="imagenet32", shape=(3, 8, 8)), tmp_path)


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
    splits = open_data(settings(holdout=1), tmp_path / "x.npz")
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
        open_data(settings(), tmp_path / "x.lmdb")
    assert len(open_data(settings(resize=(8, 8)), tmp_path / "x.lmdb").train) == 90
