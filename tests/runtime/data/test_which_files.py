"""Which files are the data, in which part and class, and what is said about the others."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError, Splits, open_given, open_splits
from hvdsl.runtime.data.listing import list_files
from hvdsl.runtime.data.names import part_of, places_of
from hvdsl.runtime.data.survey import survey


def settings(**options: Any) -> Data:
    return Data(name="images", shape=(3, 8, 8), **options)


def write(folder: Path, count: int = 6, suffix: str = ".png", size: tuple[int, int] = (8, 8), seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng([seed, len(str(folder))]).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{i}{suffix}")


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.validation), len(splits.test)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, "train") for name in ("train", "Train", "TRAINING", "train2017", "train_images", "trainset")),
        *((name, "validation") for name in ("val", "Valid", "validation", "dev", "val2012", "valid-32x32", "eval")),
        *((name, "test") for name in ("test", "Testing", "test_images", "crash_test_dummies", "Test Data", "testset")),
        *((name, "test") for name in ("holdout", "held_out", "Tests", "split=test", "02_test")),
        *((name, None) for name in ("cat", "trainer", "contest", "training_shoes", "valley", "images", "attestation")),
    ],
)  # fmt: skip
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize("linked", [("dog",), ("cat", "dog")])
def test_linked_folders_are_followed_once(tmp_path: Path, linked: tuple[str, ...]) -> None:
    for name in ("cat", "dog"):
        place = tmp_path / ("store" if name in linked else "data") / name
        write(place)
        if name in linked:
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / name).symlink_to(place)
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "cat")
    (tmp_path / "data" / "cat" / "circle").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    splits = open_splits(settings(classes=2, holdout=2), tmp_path / "data")
    assert sizes(splits) == (10, 2, 2)
    assert splits.summary.startswith("12 images in 2 folders: ")
    for words in ("1 broken links", "6 links to the same images", "links in a circle"):
        assert words in splits.summary


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("cat", "dog", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "cat/.ipynb_checkpoints"):
        write(tmp_path / name)
    for name in ("._0.png", ".DS_Store", "cat/Thumbs.db"):
        (tmp_path / name).write_bytes(b"no image")
    splits = open_splits(settings(classes=2, holdout=2), tmp_path)
    assert sizes(splits) == (10, 2, 2)
    assert splits.summary == "12 images in 2 folders: cat, dog; left out: 7 hidden; 2 held out for validation"


def test_other_formats_are_read_or_counted(tmp_path: Path) -> None:
    for suffix in (".png", ".tif", ".bmp", ".gif", ".ppm", ".JPG", ".jfif"):
        write(tmp_path, 2, suffix)
    for name in ("a.heic", "b.heic", "c.nef", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    splits = open_splits(settings(holdout=2), tmp_path)
    assert sizes(splits) == (12, 2, 2)
    assert "left out: 2 .heic (not read), 1 .nef (not read), 1 other files" in splits.summary


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"Train": 6, "Test": 4}, (5, 1, 4)),
        ({"train2017": 6, "val2017": 3, "test2017": 4}, (6, 3, 4)),
        ({"images/train": 6, "images/val": 2}, (6, 2, 2)),
        ({"training_images": 6, "dev": 3, "testing": 4}, (6, 3, 4)),
        ({"cat/train": 4, "cat/test": 2, "dog/train": 3, "dog/test": 2}, (6, 1, 4)),
        ({"photos_a": 6, "my_test_photos": 4}, (5, 1, 4)),
        ({"train": 6, "valid": 2, "unlabelled": 5}, (6, 2, 2)),
        ({"seg_train/seg_train/cat": 6, "seg_test/seg_test/cat": 4, "seg_pred/seg_pred": 2}, (5, 1, 4)),
        ({"bottle/train/good": 6, "bottle/test/good": 2, "bottle/test/broken": 2, "bottle/ground_truth": 2}, (5, 1, 4)),
        ({"training_set/training_set/cats": 6, "test_set/test_set/cats": 4}, (5, 1, 4)),
        ({"train/cat": 3, "train/dog": 3, ".": 1}, (5, 1, 1)),  # a picture beside the folder is none of them
        ({"train": 6, "bus": 6, "car": 6}, (16, 2, 2)),  # a class that is called `train`
        ({"mytrain": 6, "mytest": 4}, (5, 1, 4)),
        ({"trainval": 6, "test": 4}, (5, 1, 4)),
        ({"contest": 6, "latest": 4}, (9, 1, 1)),
        ({"tr": 6, "te": 4}, (5, 1, 4)),
        ({"Tr/cat": 3, "Tr/dog": 3, "Va/cat": 2, "Te/cat": 4}, (6, 2, 4)),
        ({"tr": 6, "test": 4}, (5, 1, 4)),
        ({"cat/tr": 3, "cat/te": 2, "dog/tr": 3, "dog/te": 2}, (5, 1, 4)),
        ({"tr": 6, "te": 6, "en": 6}, (16, 2, 2)),  # languages
        ({"tr": 6, "en": 6}, (11, 1, 1)),
    ],
)
def test_parts_by_folders(tmp_path: Path, folders: dict[str, int], expected: tuple[int, int, int]) -> None:
    for name, count in folders.items():
        write(tmp_path / name, count)
    splits = open_splits(settings(), tmp_path)
    assert sizes(splits) == expected
    if "unlabelled" in folders:
        assert "left out: 5 outside of train, validation and test" in splits.summary
    assert ("`train` is taken for a class" in splits.summary) == ("bus" in folders)


@pytest.mark.parametrize(
    ("names", "expected", "classes"),
    [
        (("train_0", "train_1", "test_0"), ["train", "train", "test"], []),
        (("train_0", "cat_1", "test_0"), ["all"] * 3, []),  # not every name says a part
        (("test_0", "test_1"), ["all"] * 2, []),
        (("pets/cat/0", "pets/dog/0"), ["all"] * 2, ["cat", "dog"]),
        (("seg_train/seg_train/cat/0", "seg_test/seg_test/dog/0"), ["train", "test"], ["cat", "dog"]),
        (("images/train/cat/0", "images/test/cat/0"), ["train", "test"], ["cat", "cat"]),
    ],
)
def test_parts_and_classes_by_paths(names: tuple[str, ...], expected: list[str], classes: list[str]) -> None:
    places = places_of([f"{name}.png" for name in names])
    assert [part for part, _ in places] == expected
    assert [folder for _, folder in places if folder is not None] == classes


def test_classes_whose_names_may_be_short_for_parts_are_told(tmp_path: Path) -> None:
    for name in ("te", "tr", "en"):
        write(tmp_path / name)
    assert list_files(tmp_path).sentence().endswith("; `te` is taken for a class; `tr` is taken for a class")


def test_names_that_say_test_among_others_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    Pillow.new("RGB", (8, 8)).save(tmp_path / "test_7.png")
    Pillow.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    summary = open_splits(settings(), tmp_path).summary
    assert "7 images; left out: 1 of colour space LAB (not read); 1 name says *test*, as test_7.png: " in summary


def test_a_few_images_are_enough_and_one_is_not(tmp_path: Path) -> None:
    write(tmp_path, 2)
    assert sizes(open_splits(settings(), tmp_path)) == (1, 1, 1)
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match="has one training image and none for validation"):
        open_splits(settings(), tmp_path)


def test_a_folder_of_test_images_alone_is_not_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "TEST")
    with pytest.raises(DataError, match="has test images but none to train on"):
        open_splits(settings(), tmp_path)


def test_classes_inside_and_outside_of_parts(tmp_path: Path) -> None:
    for name in ("images/train/cat", "images/train/dog", "images/val/cat", "images/val/dog"):
        write(tmp_path / name, 2)
    splits = open_splits(settings(classes=2), tmp_path)
    assert splits.classes == ("cat", "dog")
    labels = splits.validation.labels(range(4))
    assert labels is not None and labels.tolist() == [0, 0, 1, 1]


def test_a_wrong_size_is_found_at_the_start_and_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, 20)
    write(tmp_path / "more", 2, size=(8, 12))
    with pytest.raises(DataError, match=r"^more/0.png is 3x8x12 \(and 1 of the 22 images are like it: more/1.png\)"):
        open_splits(settings(), tmp_path)
    assert len(open_splits(settings(resize=(8, 8)), tmp_path).train) == 20
    Pillow.new("L", (12, 8)).save(tmp_path / "more/0.png")


def test_dark_levels_are_not_floored_to_nothing(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 16, (10, 8, 8, 3), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(levels):
        Pillow.fromarray(image).save(tmp_path / "pictures" / f"{i}.png")
    np.save(tmp_path / "x.npy", levels)
    refusal = r"^{}: values reach 15 of 255 .* `bits = 4` would cut all of them to 0: write `values = levels` in `data`"
    for place, named in ((tmp_path / "pictures", r"\d.png"), (tmp_path / "x.npy", r"image \d of .*x.npy")):
        for opened in (open_splits, open_given):
            with pytest.raises(DataError, match=refusal.format(named)):
                opened(settings(bits=4), place)
        taken = open_splits(settings(bits=4, values="levels"), place).train.batch(range(9))
        assert taken.max() == 15
        assert np.array_equal(
            open_given(settings(bits=4, values="levels"), place).batch([3])[0], np.moveaxis(levels[3], 2, 0)
        )


def test_levels_that_fit_in_fewer_bits_than_are_cut_are_refused_with_the_line_to_write(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 21, (10, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", levels)
    with pytest.raises(DataError, match=r"`bits = 3` would cut all of them to 0: write `values = levels, bits = 5`"):
        open_splits(settings(bits=3), tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"`bits = 5` would cut them to 0 … 2: write `values = levels` in"):
        open_splits(settings(bits=5), tmp_path / "x.npy")


@pytest.mark.parametrize(("most", "dtype", "bits"), [(3, np.uint8, 2), (4095, np.uint16, 12), (16383, np.uint16, 14)])
def test_dark_data_of_fewer_bits_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, most: int, dtype: type, bits: int
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, most + 1, (9, 8, 8, 3)).astype(dtype) | most & 1)
    open_splits(settings(), tmp_path / "x.npy")
    assert f"so that all images are dark: for fewer bits write `values = levels, bits = {bits}`" in caplog.text


def test_images_that_use_the_range_of_their_numbers_are_not_called_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.random.default_rng(0).integers(0, 64, (9, 8, 8, 3), dtype=np.uint8)
    pixels[:, 0, 0] = 64  # a quarter of what eight bits can be
    np.save(tmp_path / "x.npy", pixels)
    open_splits(settings(), tmp_path / "x.npy")
    assert "dark" not in caplog.text


def test_the_spread_of_images_that_fit_no_setting_is_that_of_what_is_stored(tmp_path: Path) -> None:
    pixels = np.repeat(np.array([10, 30], np.uint8), 8 * 8 * 3).reshape(2, 8, 8, 3)
    np.save(tmp_path / "x.npy", pixels)
    seen = survey(tmp_path / "x.npy", settings(values="levels", bits=3))  # none of them has 7 levels at most
    assert (seen.mean, seen.deviation) == (20, 10)


def test_a_single_value_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "x.npy", np.full((9, 8, 8, 3), 7, np.uint8))
    open_splits(settings(), tmp_path / "x.npy")
    assert "hold the single value 7" in caplog.text


def test_own_images_are_all_images_in_order_with_names(tmp_path: Path) -> None:
    write(tmp_path, 12)
    images = open_given(settings(), tmp_path)
    names = [f"{i}.png" for i in sorted(range(12), key=str)]
    assert images.names(range(12)) == names
    assert images.name == f"12 images of {tmp_path}"
    one = open_given(settings(), tmp_path / "3.png")
    assert (len(one), one.names([0]), one.name) == (1, ["3.png"], f"1 image of {tmp_path / '3.png'}")
    assert np.array_equal(one.batch([0]), images.batch([names.index("3.png")]))
    held = open_given(settings(holdout=3), tmp_path, split="validation")
    assert held.name == f"3 validation images of {tmp_path}, as `holdout` divides it"


def test_nothing_stands_in_for_an_own_image_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, 40)
    (tmp_path / "0.png").write_bytes(b"")  # its header says nothing: left out, and counted
    images = open_given(settings(), tmp_path)
    assert images.name.startswith("39 images of ") and images.name.endswith("; left out: 1 damaged")
    damaged = tmp_path / "7.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(
        DataError, match=r"^7.png cannot be read \(image file is truncated.*\): mend it, or leave it out"
    ):
        open_given(settings(), tmp_path).batch(range(39))


def test_classes_of_own_images_are_those_of_training(tmp_path: Path) -> None:
    for name in ("cat", "dog", "fox"):
        write(tmp_path / "data" / name, 3)
    for name in ("dog", "fox"):
        write(tmp_path / "new" / name, 2)
    own = open_given(settings(classes=3), tmp_path / "new", tmp_path / "data")
    labels = own.labels(range(4))
    assert labels is not None and labels.tolist() == [1, 1, 2, 2]
    assert open_given(settings(classes=3), tmp_path / "new").labels(range(4)) is None  # nothing says which they are
    write(tmp_path / "new" / "elk", 1)
    assert open_given(settings(classes=3), tmp_path / "new", tmp_path / "data").labels(range(5)) is None


def test_own_images_for_a_model_of_what_ships(tmp_path: Path) -> None:
    write(tmp_path, 3)
    own = open_given(Data(name="digits", shape=(1, 8, 8), bits=4), tmp_path)
    assert own.batch(range(3)).shape == (3, 1, 8, 8)


def test_own_data_with_parts_means_its_test_part(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("test", 3)):
        write(tmp_path / part, count)
    assert open_given(settings(), tmp_path).name == f"3 test images of {tmp_path}"
    assert len(open_given(settings(), tmp_path, split="train")) == 5
    with pytest.raises(DataError, match="has no validation part: it has train, test"):
        open_given(settings(), tmp_path, split="validation")


def test_unreadable_folders_are_said(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe.png")
    listing = list_files(tmp_path)
    assert len(listing.taken) == 6
    assert "1 no files" in listing.sentence()


@pytest.mark.parametrize(
    ("images", "about"),
    [
        ("images", "masks"),
        ("JPEGImages", "SegmentationClass"),
        ("train/img", "train/labels"),
        ("imgs/train", "ground_truth/train"),
        ("train", "train_masks"),
    ],
)
def test_masks_beside_images_are_no_images(tmp_path: Path, images: str, about: str) -> None:
    write(tmp_path / images, 6)
    write(tmp_path / about, 6)
    splits = open_splits(settings(), tmp_path)
    assert sizes(splits) == (5, 1, 1)
    assert "left out: 6 masks or labels of other images" in splits.summary


def test_masks_of_test_images_are_not_tested_on(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / part, 6)
        write(tmp_path / f"{part}_masks", 5)
    splits = open_splits(settings(), tmp_path)
    assert splits.summary.startswith("12 images (train 6, test 6); left out: 10 masks or labels of other images")


def test_masks_among_images_are_known_by_the_image_that_they_are_of(tmp_path: Path) -> None:
    write(tmp_path, 6)
    for name in ("0_mask", "1_seg", "2-gt", "9_mask", "mask", "unmasked"):
        Pillow.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    listing = list_files(tmp_path)
    left = {record.name for record in listing.records if record.left_out}
    assert left == {"0_mask.png", "1_seg.png", "2-gt.png"}


def test_classes_may_be_called_as_masks_are(tmp_path: Path) -> None:
    for name in ("masks", "hats"):
        write(tmp_path / name)
    assert list_files(tmp_path).classes == ("hats", "masks")


def test_a_list_of_test_images_that_is_not_read_is_told(tmp_path: Path) -> None:
    write(tmp_path / "images", 8)
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("0.png")
    assert "test.txt may say which images are for testing, and is not read" in list_files(tmp_path).sentence()
    write(tmp_path / "test", 2)
    assert "may say" not in list_files(tmp_path).sentence()


@pytest.mark.parametrize("suffix", [".npy", ".tar", ".mat"])
def test_files_that_say_no_part_beside_others_that_do_are_told(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    for number, name in enumerate(("train", "test", "extra")):
        few = images[: 9 - number]
        if suffix == ".npy":
            np.save(tmp_path / f"{name}.npy", few)
        elif suffix == ".mat":
            stored = {"X": few.transpose(1, 2, 3, 0), "y": np.arange(len(few)) + 1}
            pytest.importorskip("scipy.io").savemat(tmp_path / f"{name}.mat", stored)
        else:
            with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
                for place, image in enumerate(few):
                    file = io.BytesIO()
                    Pillow.fromarray(image).save(file, "png")
                    member = tarfile.TarInfo(f"{place}.png")
                    member.size = file.tell()
                    file.seek(0)
                    tar.addfile(member, file)
    splits = open_splits(settings(), tmp_path)
    assert sizes(splits) == (8, 1, 8)
    note = {".npy": "left out: `extra`", ".tar": "left out: 7 images of files", ".mat": "left out: extra.mat"}
    assert note[suffix] in splits.summary + caplog.text
