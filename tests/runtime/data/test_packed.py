"""Pictures in tar shards and in Parquet or Arrow tables."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError, open_given, open_splits
from hvdsl.runtime.data.source import find_source
from hvdsl.runtime.data.survey import survey

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
SETTINGS = Data(name="images", shape=(3, 8, 8), holdout=2)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "png")
    return file.getvalue()


def shard(path: Path, indices: range, mode: str = "w:") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # its modes are literals
        for i in indices:
            for name, data in ((f"set/{i:04}.rgb.png", png(IMAGES[i])), (f"set/{i:04}.cls", str(i % 3).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_tar_shards_by_their_names(tmp_path: Path) -> None:
    shard(tmp_path / "train-000000.tar", range(4))
    shard(tmp_path / "train-000001.tar", range(4, 7))
    shard(tmp_path / "test-000000.tar", range(7, 10))
    splits = open_splits(SETTINGS, tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 2, 3)
    assert np.array_equal(splits.test.batch(range(3)), IMAGES[7:].transpose(0, 3, 1, 2))
    assert splits.test.names([0]) == ["set/0007.rgb.png in test-000000.tar"]
    labels = splits.test.labels(range(3))
    assert labels is not None and labels.tolist() == [1, 2, 0]
    assert len(open_splits(SETTINGS, tmp_path / "train-000000.tar").train) == 2


def test_folders_in_a_tar_file_say_parts_and_classes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:") as archive:
        for i, folder in enumerate(("train/cat", "train/dog", "test/dog", "train/cat", "notes")):
            member = tarfile.TarInfo(f"set/{folder}/{i}.png")
            member.size = len(png(IMAGES[i]))
            archive.addfile(member, io.BytesIO(png(IMAGES[i])))
    parts = find_source(SETTINGS, tmp_path / "x.tar").parts
    assert {part: len(images) for part, images in parts.items()} == {"train": 3, "test": 1}
    assert [parts["train"].label(i) for i in range(3)] == [0, 1, 0]
    assert parts["test"].label(0) == 1
    assert np.array_equal(parts["test"].image(0, 0).values, IMAGES[2])


def test_damaged_and_compressed_tar_files_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    shard(path, range(4))
    whole = path.read_bytes()
    for length in (0, 100, 600, 1500):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"tar file|cut short|no pictures"):
            open_splits(SETTINGS, path)
    shard(path, range(4), "w:gz")
    with pytest.raises(DataError, match="cannot be read as an uncompressed tar file"):
        open_splits(SETTINGS, path)


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_tables_with_their_classes(tmp_path: Path, form: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for part, indices in (("train", range(7)), ("test", range(7, 10))):
        rows = [{"bytes": png(IMAGES[i]), "path": None} for i in indices]
        table = arrow.table({"image": rows, "label": [i % 3 for i in indices]})
        noted = b'{"info": {"features": {"label": {"names": ["ape", "bee", "cat"], "_type": "ClassLabel"}}}}'
        table = table.replace_schema_metadata({b"huggingface": noted})
        if form == "parquet":
            parquet.write_table(table, tmp_path / f"{part}-00000-of-00001.parquet")
        else:
            (tmp_path / part).mkdir()
            file = str(tmp_path / part / "data-00000-of-00001.arrow")
            with arrow.OSFile(file, "wb") as sink, arrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    splits = open_splits(SETTINGS, tmp_path)
    assert (len(splits.train), len(splits.test)) == (5, 3)
    assert np.array_equal(splits.test.batch(range(3)), IMAGES[7:].transpose(0, 3, 1, 2))
    labels = splits.test.labels(range(3))
    assert labels is not None and labels.tolist() == [1, 2, 0]
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    if form == "parquet":
        with pytest.raises(DataError, match="cannot be read as a table"):
            open_splits(SETTINGS, tmp_path)


def test_tables_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"needs `pyarrow`: install it with `pip install 'hvdsl\[parquet\]'`"):
        open_splits(SETTINGS, tmp_path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a/{}.image.png", "a/{}.seg.png"), ("images/{}.png", "masks/{}.png"), ("{}.png", "{}_mask.png")],
)
def test_masks_in_tar_files_are_no_images(
    tmp_path: Path, image: str, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:") as archive:
        for i in range(4):
            for name, picture in ((image, IMAGES[i]), (mask, 255 - IMAGES[i])):
                member = tarfile.TarInfo(name.format(i))
                member.size = len(png(picture))
                archive.addfile(member, io.BytesIO(png(picture)))
    images = find_source(SETTINGS, tmp_path / "x.tar").parts["all"]
    assert np.array_equal([images.image(i, 0).values for i in range(len(images))], IMAGES[:4])
    assert "left out: 4 masks or labels of other images" in caplog.text


def test_classes_in_words_are_those_of_training(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for part, words in (("train", ["dog", "ape", "cat", "ape"]), ("test", ["dog", "cat"])):
        rows = [{"bytes": png(IMAGES[i]), "path": None} for i in range(len(words))]
        parquet.write_table(arrow.table({"image": rows, "label": words}), tmp_path / f"{part}.parquet")
    parts = find_source(SETTINGS, tmp_path).parts
    assert [parts["train"].label(i) for i in range(4)] == [2, 0, 1, 0]
    assert [parts["test"].label(i) for i in range(2)] == [2, 1]
    data = SETTINGS.model_copy(update={"classes": 3, "holdout": 1})
    splits = open_splits(data, tmp_path)
    assert splits.train.fields["label"].place == "the column `label`, which are ape, cat, dog"
    four = data.model_copy(update={"classes": 4})
    alone = open_given(four, tmp_path / "test.parquet", classes={"label": ("ape", "bee", "cat", "dog")})
    assert alone.conditioned([0, 1], ["label"])[1]["label"].tolist() == [3, 2]


def test_arrow_files_and_streams_and_endings_in_any_case(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"photo": [png(image) for image in IMAGES]})
    table = table.replace_schema_metadata({b"huggingface": b'{"info": {"features": {"photo": {"_type": "Image"}}}}'})
    parquet.write_table(table, tmp_path / "A.PARQUET")
    for name, write in (("b.arrow", arrow.ipc.new_file), ("c.Arrow", arrow.ipc.new_stream)):
        with arrow.OSFile(str(tmp_path / name), "wb") as sink, write(sink, table.schema) as writer:
            writer.write_table(table)
    for name in ("A.PARQUET", "b.arrow", "c.Arrow"):
        images = find_source(SETTINGS, tmp_path / name).parts["all"]
        assert np.array_equal(images.image(9, 0).values, IMAGES[9])


def test_tables_of_several_data_sets_are_not_mixed(tmp_path: Path) -> None:
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-0.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="train tables in several folders, large, small: give one of them"):
        find_source(SETTINGS, tmp_path)


def test_an_lmdb_file_may_be_read_twice_at_once(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    path = tmp_path / "x.lmdb"
    with lmdb.open(str(path), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        for i, image in enumerate(IMAGES):
            transaction.put(str(i).encode(), png(image))
    contents = survey(path, SETTINGS)
    splits = open_splits(SETTINGS, path)
    assert np.array_equal(contents.images["all"].image(3, 0).values, IMAGES[3])
    assert len(splits.train) == 8
