"""Fields beside images: from arrays, class folders, tables and second folders; placed as their images are."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import ConditionSettings, Data, RandomCrop
from hvdsl.runtime.data import DataError, open_given, open_splits
from hvdsl.runtime.data.digest import dataset_digest
from hvdsl.runtime.data.tables import read_table


def numbers(name: str, count: int = 1, **options: Any) -> ConditionSettings:
    return ConditionSettings(**{"name": name, "shape": (count, 1, 1), **options})


def classes(name: str, count: int, **options: Any) -> ConditionSettings:
    return numbers(name, count, classes=count, **options)


def maps(name: str, *shape: int, **options: Any) -> ConditionSettings:
    return ConditionSettings(**{"name": name, "shape": shape, **options})


def settings(*given: ConditionSettings, **options: Any) -> Data:
    return Data(**{"name": "images", "shape": (3, 8, 8), "holdout": 3, "given": given} | options)


def write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{i:02}.png")


def pictures(count: int = 12, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_arrays_beside_the_images_follow_them_through_the_holdout(tmp_path: Path) -> None:
    images = pictures()
    images[:, 0, 0, 0] = np.arange(12)
    fields = {"age": np.arange(12) * 0.5, "kind": np.arange(12) % 3, "pose": np.arange(24).reshape(12, 2)}
    planar = images.transpose(0, 3, 1, 2)[..., ::2, ::2].astype(np.float64)
    np.savez(tmp_path / "x.npz", images=images, low=planar, other=planar.transpose(0, 2, 3, 1), **fields)
    low = [maps(name, 3, 4, 4) for name in ("low", "other")]
    data = settings(numbers("age"), classes("kind", 3), numbers("pose", 2), *low)
    splits = open_splits(data, tmp_path / "x.npz")
    for split in (splits.train, splits.validation):
        pixels, given = split.conditioned(range(len(split)), ["age", "kind", "pose", "low", "other"])
        which = pixels[:, 0, 0, 0]
        assert np.array_equal(given["age"][:, 0], which * 0.5)
        assert np.array_equal(given["kind"], which % 3)
        assert np.array_equal(given["pose"][:, 1], which * 2.0 + 1)
        assert np.array_equal(given["low"], pixels[..., ::2, ::2])
        assert np.array_equal(given["other"], given["low"])
    missing = open_splits(settings(numbers("height")), tmp_path / "x.npz").train
    message = r"no array `height` beside the images \(there are low, other, age, kind, pose\): .*source = "
    with pytest.raises(DataError, match=message):
        missing.absent("height")


def test_second_images_of_a_part_are_fields_beside_the_images_that_are_called_as_the_part(tmp_path: Path) -> None:
    mask = np.full((3, 8, 8), 7, np.uint8)
    images = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    arrays = {"train_mask": mask, "train": images, "test_images": images, "mask_test": mask}
    np.savez(tmp_path / "x.npz", **arrays)
    splits = open_splits(settings(maps("mask", 1, 8, 8), shape=(1, 8, 8), holdout=1), tmp_path / "x.npz")
    assert set(splits.train.batch(range(2))[:, 0, 0, 0]) < {0, 64, 128}
    assert (splits.test.batch([2])[0, 0] == images[2]).all()
    assert (splits.test.conditioned([2], ["mask"])[1]["mask"] == 7).all()
    np.savez(tmp_path / "y.npz", train_mask=mask, train_low=mask)
    with pytest.raises(DataError, match="call the images `train`"):
        open_splits(settings(), tmp_path / "y.npz")


def test_a_second_folder_is_cropped_shifted_and_mirrored_with_the_first(tmp_path: Path) -> None:
    images = pictures(12, 12)
    write(tmp_path / "data", images)
    write(tmp_path / "masks", 255 - images)
    data = settings(maps("mask", 3, 8, 8, source="masks"), flip=True, shift=2, crop=RandomCrop(size=(8, 8)), pad=1)
    train = open_splits(data, tmp_path / "data").train
    still, turned = train.batch(range(9)), 0
    for epoch in range(3):
        pixels, given = train.conditioned(range(9), ["mask"], epoch)
        assert ((given["mask"] + pixels == 255) | (pixels + given["mask"] == 0)).all()
        turned += int((pixels != still).any())
    assert turned == 2


@pytest.mark.parametrize("source", [None, "image"])
def test_a_mirrored_image_and_its_low_field_show_the_same(tmp_path: Path, source: str | None) -> None:
    images = pictures()
    images[:] = (images.astype(int).mean((1, 2), keepdims=True) * 0.3 + np.arange(8).reshape(8, 1) * 20).astype(
        np.uint8
    )
    low = images.reshape(12, 4, 2, 4, 2, 3).mean((2, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=images, low=low)
    train = open_splits(settings(maps("low", 3, 4, 4, source=source), flip=True), tmp_path / "x.npz").train
    mirrored = 0
    for epoch in range(3):
        pixels, given = train.conditioned(range(9), ["low"], epoch)
        shrunken = pixels.reshape(9, 3, 4, 2, 4, 2).mean((3, 5))
        assert np.corrcoef(shrunken.ravel(), given["low"].ravel())[0, 1] > (0.999 if source else 0.999999)
        mirrored += int((pixels[:, 0, 0, 0] > pixels[:, 0, 0, -1]).sum())
    assert 5 < mirrored < 22


def test_a_field_made_of_the_image_holds_what_a_file_could(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=pictures())
    train = open_splits(settings(maps("low", 3, 4, 4, source="image")), tmp_path / "x.npz").train
    low = train.conditioned(range(9), ["low"])[1]["low"]
    assert np.array_equal(low, np.rint(low)) and low.min() >= 0 and low.max() <= 255


def test_a_missing_or_smaller_second_image_is_said_by_name(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    write(tmp_path / "masks", pictures())
    (tmp_path / "masks" / "04.png").unlink()
    train = open_splits(settings(maps("mask", 3, 8, 8, source="masks")), tmp_path / "data").train
    with pytest.raises(DataError, match=r"no `mask` of 04.png in the folder .*masks: add it, or write `given mask"):
        train.absent("mask")
    data = settings(maps("mask", 3, 8, 8, source="masks", drop=0.1))
    train = open_splits(data, tmp_path / "data").train
    assert train.absent("mask") == 1
    given = train.conditioned(range(9), ["mask"])[1]
    assert np.isnan(given["mask"]).all((1, 2, 3)).sum() == 1
    Pillow.new("RGB", (4, 4)).save(tmp_path / "masks" / "00.png")
    with pytest.raises(DataError, match=r"`mask` of 00.png is 4x4, and the image 8x8"):
        train.conditioned(range(1), ["mask"])


ROWS = [(f"{i:02}.png" if i % 2 else f"{i:02}", i, "cat" if i % 3 else "dog") for i in range(12)]


def table(path: Path, rows: list[tuple[object, ...]], columns: tuple[str, ...] = ("file_name", "age", "kind")) -> Path:
    if path.suffix == ".jsonl":
        lines = ["{" + ", ".join(f'"{c}": "{v}"' for c, v in zip(columns, row, strict=True)) + "}" for row in rows]
    else:
        between = {"t.csv": ",", "t.tsv": "\t", "t.txt": ";"}[path.name]
        lines = [between.join(map(str, row)) for row in [columns, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.jsonl"])
def test_tables_are_matched_by_file_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data", pictures())
    table(tmp_path / name, ROWS)
    data = settings(numbers("years", source=name, column="age"), classes("kind", 2, source=name))
    train = open_splits(data, tmp_path / "data").train
    given, names = train.conditioned(range(9), ["years", "kind"])[1], train.names(range(9))
    which = np.asarray([int(n[:2]) for n in names])
    assert np.array_equal(given["years"][:, 0], which)
    assert train.fields["kind"].classes == ("cat", "dog")
    assert np.array_equal(given["kind"], which % 3 == 0)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (numbers("height", source="t.csv"), "has no column `height`: it has age, kind; `column = …`"),
        (numbers("kind", source="t.csv"), "holds 2 different words, cat, dog, .* write `given kind = 2 classes`"),
        (classes("kind", 3, source="t.csv"), "`data` declares 3 classes: write `given kind = 2 classes`"),
        (classes("age", 5, source="t.csv"), "`age` of 05.png is 5; `data` declares 5 classes, numbered 0 to 4"),
        (numbers("age", 2, source="t.csv"), "`age` of 00.png is 1, and `data` declares 2"),
        (numbers("age", source="u.csv"), "no `u.csv`, the source of `age`: looked for .*did you mean `t.csv`"),
        (numbers("age", source="x.npz"), "x.npz is no table"),
    ],
)
def test_what_a_table_does_not_hold_is_said(tmp_path: Path, field: ConditionSettings, message: str) -> None:
    write(tmp_path / "data", pictures())
    table(tmp_path / "t.csv", ROWS)
    np.savez(tmp_path / "x.npz", age=np.arange(3))
    train = open_splits(settings(field), tmp_path / "data").train
    with pytest.raises(DataError, match=message):
        train.absent(field.name)


@pytest.mark.parametrize("value", ["", "nan", "NA", "none", "inf"])
def test_a_missing_row_or_value_is_an_error_unless_the_field_may_be_dropped(tmp_path: Path, value: str) -> None:
    write(tmp_path / "data", pictures())
    rows = [(*row[:1], value if i == 3 else row[1], *row[2:]) for i, row in enumerate(ROWS) if i != 5]
    table(tmp_path / "t.csv", rows)
    train = open_splits(settings(numbers("age", source="t.csv"), holdout=1), tmp_path / "data").train
    with pytest.raises(DataError, match=r"no `age` of 0[35].png in .*t.csv: add it, or write `given age = … \{ drop"):
        train.absent("age")
    train = open_splits(settings(numbers("age", source="t.csv", drop=0.1), holdout=1), tmp_path / "data").train
    ages = train.conditioned(range(11), ["age"])[1]["age"]
    assert train.absent("age") == np.isnan(ages).sum() in (1, 2)


def test_several_numbers_stand_in_one_column(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    lines = "".join(f'{{"file": "{i:02}.png", "pose": [{i}, 0.5]}}\n' for i in range(12))
    (tmp_path / "t.jsonl").write_text(lines)
    train = open_splits(settings(numbers("pose", 2, source="t.jsonl")), tmp_path / "data").train
    pose = train.conditioned(range(9), ["pose"])[1]["pose"]
    assert np.array_equal(pose[:, 0], [int(n[:2]) for n in train.names(range(9))]) and (pose[:, 1] == 0.5).all()


def test_rows_know_their_image_however_its_path_is_written(tmp_path: Path) -> None:
    accented = "caf\u00e9 1"
    for folder in ("a", "b"):
        write(tmp_path / "data" / folder, pictures(6))
        Pillow.new("RGB", (8, 8)).save(tmp_path / "data" / folder / f"{accented}.png")
    rows = [(f"data\\{folder}\\{i:02}.jpg" if i else f"./{folder}/{i:02}", i) for folder in "ab" for i in range(6)]
    rows += [(unicodedata.normalize("NFD", f"{folder}/{accented}.png"), 9) for folder in "ab"]
    table(tmp_path / "t.csv", rows, ("file", "age"))
    data = settings(numbers("age", source="t.csv"))
    train = open_splits(data, tmp_path / "data").train
    names = [name.rpartition("/")[2] for name in train.names(range(11))]
    assert train.conditioned(range(11), ["age"])[1]["age"][:, 0].tolist() == [
        int(name[:2]) if name[:2].isdecimal() else 9 for name in names
    ]
    one = open_given(data, tmp_path / "data" / "a" / "03.png", tmp_path / "data")
    assert one.conditioned([0], ["age"])[1]["age"].tolist() == [[3]]


def test_other_images_without_what_may_be_absent_are_told(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    write(tmp_path / "elsewhere" / "new", pictures(3))
    table(tmp_path / "t.csv", ROWS)
    for drop in (0.0, 0.1):
        data = settings(numbers("age", source="t.csv", drop=drop))
        assert open_splits(data, tmp_path / "data").train.absent("age") == 0
        other = open_given(data, tmp_path / "elsewhere" / "new", tmp_path / "data")
        if drop:
            assert other.name.endswith("new; 3 without `age`") and other.absent("age") == 3
        else:
            with pytest.raises(DataError, match=r"no `t.csv`, the source of `age`.*`--given age=…` says it"):
                other.absent("age")


def test_one_row_or_image_for_two_images_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / "data" / folder, pictures(6))
    write(tmp_path / "masks", pictures(6))
    table(tmp_path / "t.csv", [(f"{i:02}.png", i) for i in range(6)], ("file", "age"))
    data = settings(numbers("age", source="t.csv"), maps("mask", 3, 8, 8, source="masks"))
    train = open_splits(data, tmp_path / "data").train
    with pytest.raises(DataError, match=r"the row 0\d.png of .*t.csv may be of a/0\d.png or of b/0\d.png"):
        train.absent("age")
    with pytest.raises(DataError, match=r"masks.0\d.png may belong to a/0\d.png or to b/0\d.png"):
        train.absent("mask")
    assert open_given(data, tmp_path / "data" / "a", tmp_path / "data").absent("age") == 0


def test_an_image_is_not_its_own_second_image(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    (tmp_path / "masks").mkdir()
    data = settings(maps("mask", 3, 8, 8, source=str(tmp_path / "masks")))
    with pytest.raises(DataError, match=r"no `mask` of 00.png"):
        open_given(data, tmp_path / "data" / "00.png").conditioned([0], ["mask"])


def test_two_rows_for_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,age\na.png,3\na.png,4\n")
    with pytest.raises(DataError, match=r"two rows for a.png \(the second is row 2\)"):
        read_table(tmp_path / "t.csv")


def test_class_folders_keep_their_names(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, pictures(6))
    train = open_splits(settings(classes("label", 2), classes=2), tmp_path).train
    assert train.fields["label"].classes == ("cat", "dog")
    label = train.conditioned(range(9), ["label"])[1]["label"]
    assert np.array_equal(label, [int(n.startswith("dog")) for n in train.names(range(9))])


@pytest.mark.parametrize("part", ["data", "data/dog", "data/dog/00.png"])
def test_classes_of_other_images_are_counted_by_the_names_of_training(tmp_path: Path, part: str) -> None:
    write(tmp_path / "data" / "dog", pictures(2))
    (tmp_path / "t.csv").write_text("file,kind\n00.png,m\n01.png,m\n")
    data = settings(classes("label", 2), classes("kind", 2, source=str(tmp_path / "t.csv")), classes=2)
    known = {"label": ("cat", "dog"), "kind": ("f", "m")}
    given = open_given(data, tmp_path / part, classes=known).conditioned([0], ["label", "kind"])[1]
    assert (given["label"].tolist(), given["kind"].tolist()) == ([1], [1])
    (tmp_path / "t.csv").write_text("file,kind\n00.png,x\n")
    with pytest.raises(DataError, match=r"`kind` of .*00.png in .*t.csv is `x`; the classes are f, m"):
        open_given(data, tmp_path / part, classes=known).conditioned([0], ["kind"])


def test_a_label_may_stand_in_a_table(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    table(tmp_path / "t.csv", ROWS)
    data = settings(classes("label", 2, source="t.csv", column="kind"), classes=2)
    train = open_splits(data, tmp_path / "data").train
    assert train.conditioned(range(9), ["label"])[1]["label"].tolist() == [
        int(int(n[:2]) % 3 == 0) for n in train.names(range(9))
    ]


def test_a_digest_sees_every_value_and_class(tmp_path: Path) -> None:
    small = np.zeros((200, 2, 2, 3), np.uint8)
    data = Data(name="images", shape=(3, 2, 2), holdout=1, classes=3, given=(classes("label", 3), numbers("age")))

    def digest(**changed: int) -> str:
        arrays = {"labels": np.zeros(200, np.int64), "age": np.zeros(200)}
        for name, place in changed.items():
            arrays[name][place] = 1
        np.savez(tmp_path / "x.npz", images=small, **arrays)
        return dataset_digest(open_splits(data, tmp_path / "x.npz").train)

    assert digest() == digest()
    assert len({digest(), digest(age=101), digest(age=102), digest(labels=101)}) == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_as_spreadsheets_write_them(tmp_path: Path, encoding: str, end: str) -> None:
    text = end.join(["file;note;age", '0.png;"a ""b"";\nsecond line\u2028third";1', "1.png;Müller;2", ""])
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "t.csv").write_bytes(mark + text.encode(encoding))
    columns = read_table(tmp_path / "t.csv")
    assert columns["age"].texts == {"0.png": "1", "1.png": "2"}
    assert columns["note"].texts == {"0.png": 'a "b";\nsecond line\u2028third', "1.png": "Müller"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "file,name,age\n0.png,Müller,1".encode("latin-1"),
            r"not in UTF-8 \(byte \d+ begins no",
        ),
        (b"file,age,age\n0.png,1,2", "two columns are called `age`"),
        (b"file,age\n0.png,1,2", "more values than there are columns"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.csv")


def test_decimals_with_a_comma_are_no_words(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    rows = "\n".join(f"{i:02}.png;{i},5" for i in range(12))
    (tmp_path / "t.csv").write_text(f"file;age\n{rows}")
    train = open_splits(settings(numbers("age", source="t.csv")), tmp_path / "data").train
    with pytest.raises(DataError, match=r"`age` in .*t\.csv is 0,5: write decimals with a point"):
        train.absent("age")
