"""Conditions and weights: from arrays, class folders, tables and second folders; placed as their images are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data, RandomCrop
from hvdsl.runtime.data import DataError, Splits, open_data
from hvdsl.runtime.data.fields import FieldSource, read_table


def settings(**options: Any) -> Data:
    return Data(**{"name": "images", "shape": (3, 8, 8), "holdout": 3} | options)


def write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{i:02}.png")


def pictures(count: int = 12, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_arrays_beside_the_images_follow_them_through_the_holdout(tmp_path: Path) -> None:
    images = pictures()
    images[:, 0, 0, 0] = np.arange(12)
    fields = {"age": np.arange(12) * 0.5, "kind": np.arange(12) % 3, "low": images[:, None, :, :, 0].astype(np.float64)}
    np.savez(tmp_path / "x.npz", images=images, **fields)
    given = dict.fromkeys(("age", "kind", "low"), FieldSource())
    splits = open_data(settings(), tmp_path / "x.npz", given)
    for split in (splits.train, splits.validation):
        found = split.examples(range(len(split)))
        which = found.pixels[:, 0, 0, 0]
        assert np.array_equal(found.given["age"][:, 0], which * 0.5)
        assert np.array_equal(found.given["kind"], which % 3)
        assert found.given["low"].shape == (len(split), 1, 8, 8)
        assert np.array_equal(found.given["low"][:, 0], found.pixels[:, 0])
    with pytest.raises(DataError, match=r"no array `height` beside the images \(there are: age, kind, low\)"):
        open_data(settings(), tmp_path / "x.npz", {"height": FieldSource()})


def test_a_second_folder_is_cropped_shifted_and_mirrored_with_the_first(tmp_path: Path) -> None:
    images = pictures(12, 12)
    write(tmp_path / "data", images)
    write(tmp_path / "masks", 255 - images)
    np.savez(tmp_path / "w.npz", images=images, weight=images[:, :, :, 0] / 255)
    data = settings(flip=True, shift=2, crop=RandomCrop(size=(8, 8)), pad=1)
    train = open_data(data, tmp_path / "data", {"mask": FieldSource(tmp_path / "masks")}).train
    turned = 0
    for epoch in range(3):
        found = train.examples(range(9), epoch)
        inside = (found.given["mask"] + found.pixels == 255) | (found.pixels + found.given["mask"] == 0)
        assert inside.all()
        turned += int((found.pixels != train.examples(range(9)).pixels).any())
    assert turned == 2
    weighted = open_data(data, tmp_path / "w.npz", {"weight": FieldSource()}).train.examples(range(9), 1)
    assert weighted.weight is not None and weighted.weight.shape == (9, 1, 8, 8)
    assert np.allclose(weighted.weight[:, 0] * 255, weighted.pixels[:, 0], atol=1e-3)
    assert weighted.given == {}


def test_a_missing_or_smaller_second_image_is_said_by_name(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    write(tmp_path / "masks", pictures())
    (tmp_path / "masks" / "04.png").unlink()
    train = open_data(settings(), tmp_path / "data", {"mask": FieldSource(tmp_path / "masks")}).train
    with pytest.raises(DataError, match=r"`mask` has no image for 04.png"):
        train.examples(range(9))
    droppable = {"mask": FieldSource(tmp_path / "masks", droppable=True)}
    found = open_data(settings(), tmp_path / "data", droppable).train.examples(range(9))
    assert found.present["mask"].sum() == 8
    assert (found.given["mask"][~found.present["mask"]] == 0).all()
    Pillow.new("RGB", (4, 4)).save(tmp_path / "masks" / "00.png")
    with pytest.raises(DataError, match=r"`mask` of 00.png is 4x4, and the image 8x8"):
        train.examples(range(1))


def table(folder: Path, name: str) -> Path:
    path = folder / name
    rows = [(f"{i:02}.png" if i % 2 else f"{i:02}", i, "cat" if i % 3 else "dog") for i in range(12)]
    if path.suffix == ".jsonl":
        path.write_text("".join(f'{{"file_name": "{f}", "age": {a}, "kind": "{k}"}}\n' for f, a, k in rows))
    else:
        between = "\t" if path.suffix == ".tsv" else ","
        path.write_text("\n".join(between.join(map(str, row)) for row in [("file_name", "age", "kind"), *rows]) + "\n")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_tables_are_matched_by_file_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data", pictures())
    path = table(tmp_path, name)
    splits = open_data(settings(), tmp_path / "data", {"years": FieldSource(path, "age"), "kind": FieldSource(path)})
    assert isinstance(splits, Splits)
    found = splits.train.examples(range(9))
    numbers = np.asarray([int(n[:2]) for n in found.names])
    assert np.array_equal(found.given["years"], numbers)
    assert splits.train.fields["kind"].classes == ("cat", "dog")
    assert np.array_equal(found.given["kind"], numbers % 3 == 0)
    with pytest.raises(DataError, match="has no column `height`: it has age, kind"):
        open_data(settings(), tmp_path / "data", {"height": FieldSource(path)})


def test_a_missing_row_is_an_error_unless_the_field_may_be_dropped(tmp_path: Path) -> None:
    write(tmp_path / "data", pictures())
    (tmp_path / "t.csv").write_text("file,age\n00.png,3\n01.png,\n")
    train = open_data(settings(), tmp_path / "data", {"age": FieldSource(tmp_path / "t.csv")}).train
    with pytest.raises(DataError, match=r"no value of `age` for \d\d.png: add it"):
        train.examples(range(9))
    droppable = {"age": FieldSource(tmp_path / "t.csv", droppable=True)}
    found = open_data(settings(), tmp_path / "data", droppable).train.examples(range(9))
    assert set(found.given["age"].tolist()) <= {-1, 3}


def test_two_rows_for_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,age\na.png,3\na.png,4\n")
    with pytest.raises(DataError, match=r"two rows for a.png \(the second is row 2\)"):
        read_table(tmp_path / "t.csv")


def test_class_folders_keep_their_names(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, pictures(6))
    splits = open_data(settings(classes=2), tmp_path, {"label": FieldSource()})
    found = splits.train.examples(range(9))
    assert splits.train.fields["label"].classes == ("cat", "dog")
    assert np.array_equal(found.given["label"], [int(n.startswith("dog")) for n in found.names])
