"""Data in the forms in which others publish it: IDX, MATLAB and LMDB files, made here."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.extras import optional
from hvdsl.runtime.data.idx import read_idx
from hvdsl.runtime.data.open import open_data


def settings(name: str, shape: tuple[int, int, int], **more: Any) -> Data:
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
    splits = open_data(settings("mnist", (1, 32, 32), pad=2, classes=10), tmp_path)
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
    splits = open_data(settings("omniglot", (1, 28, 28)), path)
    assert (len(splits.train), len(splits.test)) == (4, 2)
    assert np.array_equal(splits.test.batch([0, 1])[:, 0], np.rint(255 * images[:2]))
    scipy.savemat(path, {"data": columns * 300, "testdata": columns})
    with pytest.raises(DataError, match="values from 0 to 1"):
        open_data(settings("omniglot", (1, 28, 28)), path)


def test_lmdb_of_raw_bytes_and_of_image_files(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(images[2]).save(file, "png")
    for split, count in (("train", 3), ("validation", 2)):
        with lmdb.open(str(tmp_path / f"{split}.lmdb"), map_size=1 << 20) as env, env.begin(write=True) as transaction:
            for i in range(count):
                transaction.put(str(i).encode(), file.getvalue() if i == 2 else images[i].tobytes())
    splits = open_data(Data(name="imagenet32", shape=(3, 8, 8)), tmp_path)
    assert (len(splits.train), len(splits.validation)) == (3, 2)
    assert np.array_equal(splits.train.batch([0, 1, 2]), images.transpose(0, 3, 1, 2))


def test_a_missing_package_is_named_with_the_way_to_it() -> None:
    with pytest.raises(
        DataError, match=r"needs `hvdsl_no_such_package`: install it with `pip install 'hvdsl\[lmdb\]'`"
    ):
        optional("hvdsl_no_such_package", "lmdb", "reading train.lmdb")
