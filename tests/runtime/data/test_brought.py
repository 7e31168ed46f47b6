"""What people bring: it is read as they would expect, or a sentence says what it is and what to do."""

from __future__ import annotations

import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError, open_splits
from hvdsl.runtime.data.digest import dataset_digest
from hvdsl.runtime.data.survey import suggested_lines, survey

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
IMAGES[:, 0, 0] = 255


def settings(channels: int = 3, **options: Any) -> Data:
    return Data(name="images", shape=(channels, 8, 8), **options)


def write(folder: Path, images: Any = IMAGES, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{number}.png", **options)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path)
    source = os.fsencode(tmp_path)
    os.rename(source + b"/0.png", source + b"/\xff\xfe.png")  # noqa: PTH104
    os.rename(source + b"/1.png", source + b"/a\nb.png")  # noqa: PTH104
    splits = open_splits(settings(), tmp_path)
    assert len(splits.train) == 8
    assert len(dataset_digest(splits.train)) == 64


@pytest.mark.parametrize("kind", [">u2", ">f4", ">f8", "<f2"])
def test_any_order_of_bytes(kind: str, tmp_path: Path) -> None:
    whole = kind == ">u2"
    np.save(tmp_path / "x.npy", (IMAGES * 257.0 if whole else IMAGES / 255).astype(kind))
    seen = survey(tmp_path / "x.npy")
    assert list(seen.kinds) == [np.dtype(kind).newbyteorder("=").name]
    assert ("values = real" in suggested_lines(seen)) is not whole
    batch = open_splits(settings() if whole else settings(values="real"), tmp_path / "x.npy").train.batch([0])
    stored = (IMAGES if whole else (IMAGES / 255).astype(kind).astype(np.float32)).transpose(0, 3, 1, 2)
    assert any(np.array_equal(batch[0], image) for image in stored)


def test_what_is_not_finite_is_said_first(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.where(IMAGES > 9, np.nan, 0).astype(np.float32))
    for options in ({}, {"values": "real"}):
        with pytest.raises(DataError, match="holds NaN: replace"):
            open_splits(settings(**options), tmp_path / "x.npy")


def test_only_the_deepest_images_say_whether_all_are_dark(tmp_path: Path) -> None:
    write(tmp_path)
    for number in range(9):
        grey = IMAGES[number, :, :, 0].astype(np.uint16)
        Pillow.fromarray(grey).save(tmp_path / f"deep{number}.png")  # up to 255 of 65,535
    with pytest.raises(DataError, match=r"deep\d.png: values reach 255 of 65,535.*write `values = levels`"):
        open_splits(settings(), tmp_path)
    for number in range(9):
        Pillow.fromarray(IMAGES[number, :, :, 0].astype(np.uint16) * 257).save(tmp_path / f"deep{number}.png")
    open_splits(settings(), tmp_path)


def pack(place: Path, form: str) -> Path:
    place.mkdir()
    write(place / "inside", IMAGES[:1])
    picture = (place / "inside" / "0.png").rename(place / "0.png")
    (place / "inside").rmdir()
    file = place / f"x{form}"
    if form == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.write(picture, "0.png")
    elif form == ".tar.gz":
        with tarfile.open(file, "w:gz") as archive:
            archive.add(picture, "0.png")
    elif form == "":
        picture.rename(file)
        return file
    else:
        file.write_bytes(pickle.dumps({"images": IMAGES}) if form == ".pkl" else b"0,1,2")
    picture.unlink()
    return file


@pytest.mark.parametrize(
    ("form", "advice"),
    [
        (".zip", "unpack it, and give the folder"),
        (".tar.gz", "unpack it, and give the folder"),
        (".h5", "save its arrays with `numpy.save`"),
        (".pkl", "a pickle, which would be executed"),
        (".tfrecord", "write its pictures into a folder"),
        (".csv", "of a table of pixels"),
        (".heic", "convert it to PNG or TIFF"),
        (".mp4", "write its frames into a folder"),
        ("", "x is a picture without a suffix"),
    ],
)
def test_forms_that_are_not_read_say_what_to_do(form: str, advice: str, tmp_path: Path) -> None:
    file = pack(tmp_path / "data", form)
    with pytest.raises(DataError, match=advice):
        survey(file.parent)
    if form:
        with pytest.raises(DataError, match=advice):
            survey(file)


def test_archives_beside_pictures_are_counted(tmp_path: Path) -> None:
    pack(tmp_path / "data", ".zip")
    write(tmp_path / "data")
    assert survey(tmp_path / "data").summary == "9 images; left out: 1 .zip (packed)"


def test_pages_of_a_stack_are_told(tmp_path: Path) -> None:
    first, *others = [Pillow.fromarray(image) for image in IMAGES]
    first.save(tmp_path / "scan.tif", save_all=True, append_images=others)
    assert survey(tmp_path / "scan.tif").notes == ["scan.tif has 9 frames: the first is taken"]
    with pytest.raises(DataError, match=r"one training image.*; scan.tif has 9 frames, of which the first is taken"):
        open_splits(settings(), tmp_path)


def test_the_same_pixels_in_another_file_of_another_part_are_found(tmp_path: Path) -> None:
    write(tmp_path / "train", compress_level=9)
    write(tmp_path / "test", IMAGES[4:6], compress_level=0)
    Pillow.fromarray(IMAGES[8]).save(tmp_path / "test" / "again.bmp")
    Pillow.fromarray(IMAGES[8]).save(tmp_path / "train" / "again.bmp")
    seen = survey(tmp_path)
    assert set(seen.across) == {
        ("train: train/4.png", "test: test/0.png"),
        ("train: train/5.png", "test: test/1.png"),
        ("train: train/again.bmp", "test: test/again.bmp"),
    }
    assert seen.within == 1 and seen.compared


def test_files_that_turn_out_damaged_are_listed(tmp_path: Path) -> None:
    write(tmp_path)
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[:90])
    assert survey(tmp_path).left_out == [("3.png", "image file is truncated")]


def test_a_table_beside_images_is_told(tmp_path: Path) -> None:
    write(tmp_path / "images")
    (tmp_path / "labels.csv").write_text("file,label\nimages/0.png,cat\n")
    seen = survey(tmp_path)
    assert seen.summary == "9 images; left out: 1 other files"
    assert any('given NAME = 10 classes { source = "labels.csv" }' in note for note in seen.notes)
    assert not survey(tmp_path, settings()).notes


def test_classes_in_tar_files_have_their_names(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / "in" / name)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "in", "in")
    assert survey(tmp_path / "x.tar").classes == {"cat": 9, "dog": 9}


def test_numbers_of_classes_count_from_zero(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=np.arange(9) % 2 + 1)
    assert "classes = 3" in suggested_lines(survey(tmp_path / "x.npz"))


@pytest.mark.parametrize("form", [".tar", ".parquet"])
def test_one_image_of_another_size_among_many_is_found_at_the_start(form: str, tmp_path: Path) -> None:
    images = [IMAGES[0]] * 77 + [np.tile(IMAGES[1], (2, 1, 1))] + [IMAGES[0]] * 50
    write(tmp_path / "in", images)
    if form == ".tar":
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            archive.add(tmp_path / "in", "in")
        name = r"in/77.png in x.tar"
    else:
        arrow = pytest.importorskip("pyarrow")
        pictures = [(tmp_path / "in" / f"{number}.png").read_bytes() for number in range(len(images))]
        pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"image": pictures}), tmp_path / "x.parquet")
        name = "row 77 of x.parquet"
    with pytest.raises(DataError, match=rf"^{name} is 16x8, the spec's data section says 8x8"):
        open_splits(settings(), tmp_path / f"x{form}")
    assert len(open_splits(settings(resize=(8, 8), holdout=8), tmp_path / f"x{form}").train) == 120


def test_a_part_of_several_folders_is_told(tmp_path: Path) -> None:
    for name in ("train_HR", "train_LR", "valid_HR", "valid_LR"):
        write(tmp_path / name, IMAGES[:2])
    assert survey(tmp_path).summary == (
        "8 images (train 4, validation 4); train is of several folders: train_HR, train_LR; validation is of several "
        "folders: valid_HR, valid_LR"
    )


def test_masks_in_a_folder_beside_one_whose_name_speaks_of_images(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write(tmp_path / "leftImg8bit" / part / "town")
        write(tmp_path / "gtFine" / part / "town")
    assert survey(tmp_path).summary.startswith(
        "18 images in 1 folder: town (train 9, validation 9); left out: 18 masks"
    )
    for name in ("mask_images", "hat_images"):
        write(tmp_path / "worn" / name)
    assert list(survey(tmp_path / "worn").classes) == ["hat_images", "mask_images"]


@pytest.mark.parametrize(
    ("marker", "kind"), [(0xC1, "a JPEG of 12 bits, which"), (0xC3, "a JPEG of 12 bits and lossless")]
)
def test_jpegs_of_more_than_8_bits_are_named(marker: int, kind: str, tmp_path: Path) -> None:
    write(tmp_path)
    frame = bytes((0xFF, marker)) + b"\0\x0b\x0c\0\x10\0\x10\1\1\x11\0"
    (tmp_path / "ct.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(9) + frame + bytes(99))
    assert dict(survey(tmp_path).left_out)["ct.jpg"].startswith(kind)


def test_a_colour_space_that_is_not_read_says_what_to_do(tmp_path: Path) -> None:
    Pillow.fromarray(IMAGES[0]).convert("LAB").save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"1 of colour space LAB \(not read\)\): convert them to RGB"):
        survey(tmp_path)
