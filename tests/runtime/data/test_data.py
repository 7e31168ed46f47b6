"""What a model sees of shipped data and of files."""

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import DataError, open_splits
from hvdsl.runtime.data.picture import StoredImage
from hvdsl.runtime.data.plain_pickle import RefusedError, read_plain
from hvdsl.runtime.data.preprocess import Preprocess
from hvdsl.runtime.data.source import find_source


def settings(name: str = "images", shape: tuple[int, int, int] = (3, 8, 8), **options: object) -> Data:
    return Data.model_validate({"name": name, "shape": shape, **options})


def random_images(count: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write_images(folder: Path, images: np.ndarray, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}{suffix}")


def test_digits_are_split_into_1350_150_and_297() -> None:
    splits = open_splits(settings("digits", (1, 8, 8), bits=4))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1350, 150, 297)
    batch = splits.train.batch(range(1350))
    assert batch.shape == (1350, 1, 8, 8)
    assert (batch.min(), batch.max()) == (0, 15)


def test_the_split_follows_its_seed() -> None:
    first, again, other = (
        open_splits(settings("digits", (1, 8, 8), split_seed=seed)).validation.batch(range(150)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [32, 64, 160, 400, 427])
def test_photo_crops_for_validation_never_show_training_pixels(size: int) -> None:
    splits = open_splits(settings("photos", (3, size, size)))
    train = {bytes(row) for image in splits.train.batch(range(24)) for row in image.astype(np.uint8).reshape(-1, size)}
    held = splits.validation.batch(range(24)).astype(np.uint8).reshape(-1, size)
    distinct = [row for row in held if len(np.unique(row)) > 4]  # a saturated row of sky can be anywhere
    assert distinct
    assert not any(bytes(row) in train for row in distinct)


def test_photo_crops_change_with_the_epoch_in_training_only() -> None:
    splits = open_splits(settings("photos", (3, 32, 32)))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (4096, 256, 256)
    assert not np.array_equal(splits.train.batch([0], epoch=0), splits.train.batch([0], epoch=1))
    assert np.array_equal(splits.validation.batch([0], epoch=0), splits.validation.batch([0], epoch=1))


def test_photos_larger_than_the_pictures_are_refused() -> None:
    with pytest.raises(DataError, match=r"427x640.*crops of 512x512"):
        open_splits(settings("photos", (3, 512, 512)))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_nested_folder_of_images_is_read_in_path_order(tmp_path: Path, suffix: str) -> None:
    images = random_images(20)
    write_images(tmp_path / "train" / "a", images[:10], suffix)
    write_images(tmp_path / "train" / "b", images[10:], suffix)
    write_images(tmp_path / "valid", images[:4], suffix)
    splits = open_splits(settings(), tmp_path)
    assert (len(splits.train), len(splits.validation)) == (20, 4)
    if suffix == ".png":
        assert np.array_equal(splits.train.batch(range(20)), images.transpose(0, 3, 1, 2))


def test_damaged_files_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path, random_images(12))
    (tmp_path / "003.png").write_bytes(b"not an image")
    whole = (tmp_path / "005.png").read_bytes()
    (tmp_path / "005.png").write_bytes(whole[: len(whole) // 2])
    splits = open_splits(settings(holdout=2), tmp_path)
    splits.train.batch(range(len(splits.train)))
    splits.validation.batch(range(2))
    assert len(splits.train) + len(splits.validation) == 11
    assert "003.png" in caplog.text
    assert "005.png" in caplog.text


def test_too_many_damaged_files_are_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, random_images(20))
    for i in range(11):
        (tmp_path / f"{i:03}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"11 image files.*are damaged"):
        open_splits(settings(), tmp_path)


def test_an_image_of_another_size_says_how_to_fit_it(tmp_path: Path) -> None:
    write_images(tmp_path, random_images(10, 9, 12))
    with pytest.raises(DataError, match=r"3x9x12.*says 3x8x8.*resize = 8x8"):
        open_splits(settings(), tmp_path).train.batch([0])
    assert open_splits(settings(resize=(8, 8)), tmp_path).train.batch([0]).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("planar", [False, True])
def test_array_files_in_both_axis_orders(tmp_path: Path, planar: bool) -> None:
    images = random_images(10)
    np.save(tmp_path / "x.npy", images.transpose(0, 3, 1, 2) if planar else images)
    splits = open_splits(settings("arrays", holdout=2), tmp_path / "x.npy")
    together = np.concatenate([splits.train.batch(range(8)), splits.validation.batch(range(2))])
    assert {bytes(i) for i in together.astype(np.uint8)} == {bytes(i) for i in images.transpose(0, 3, 1, 2).copy()}


def test_an_npz_with_named_splits_and_labels(tmp_path: Path) -> None:
    images = random_images(9)
    np.savez(tmp_path / "x.npz", train=images[:5], valid=images[5:7], test=images[7:], test_labels=np.array([3, 1]))
    splits = open_splits(settings("arrays"), tmp_path / "x.npz")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 2, 2)
    assert splits.test.labels([0, 1]).tolist() == [3, 1]  # type: ignore[union-attr]  # given above


ROWS, KINDS = random_images(6), np.arange(6) % 3
FILES: dict[str, tuple[dict[str, Any], dict[str, int], list[int] | None]] = {
    "parts": ({"train.npy": ROWS, "test.npy": ROWS[:2]}, {"train": 6, "test": 2}, None),
    "labels beside": (
        {"x_train.npy": ROWS, "y_train.npy": KINDS, "x_test.npy": ROWS[:2]}, {"train": 6, "test": 2}, [0, 1],
    ),
    "shards": ({"train_1.npy": ROWS, "train_2.npy": ROWS[:3]}, {"train": 9}, None),
    "shards with labels": (
        {"x_train_0.npy": ROWS[:2], "y_train_0.npy": KINDS[:2], "x_train_1.npy": ROWS[2:], "y_train_1.npy": KINDS[2:]},
        {"train": 6},
        [0, 1],
    ),
    "years": ({"train2017.npy": ROWS, "val2017.npy": ROWS[:2]}, {"train": 6, "validation": 2}, None),
    "images and labels": ({"images.npy": ROWS, "labels.npy": KINDS}, {"all": 6}, [0, 1]),
    "archives": (
        {"train.npz": {"images": ROWS, "labels": KINDS}, "test.npz": {"images": ROWS}}, {"train": 6, "test": 6}, [0, 1],
    ),
    "one, upper case": ({"X.NPY": ROWS}, {"all": 6}, None),
    "one image each": ({f"{i}.npy": row for i, row in enumerate(ROWS)}, {"all": 6}, None),
    "an odd name": ({"x.npz": {"pictures": ROWS, "ages": KINDS}}, {"all": 6}, None),
    "classes of factors": ({"x.npz": {"imgs": ROWS, "latents_classes": np.zeros((6, 4), int)}}, {"all": 6}, None),
    "a column": ({"x.npz": {"images": ROWS, "labels": KINDS[:, None]}}, {"all": 6}, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_array_files_beside_each_other(tmp_path: Path, case: str) -> None:
    files, expected, labels = FILES[case]
    for name, held in files.items():
        with (tmp_path / name).open("wb") as file:
            np.savez(file, **held) if isinstance(held, dict) else np.save(file, held)
    parts = find_source(settings(), tmp_path).parts
    assert {part: len(images) for part, images in parts.items()} == expected
    first = next(iter(parts.values()))
    assert np.array_equal(first.image(5, 0).values, ROWS[5])
    assert labels is None or [first.label(0), first.label(1)] == labels
    assert labels is not None or first.label(0) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.npy": ROWS, "b.npy": ROWS}, "holds a, b: give one array `images`"),
        ({"train.npy": ROWS, "sub/x.png": None}, "holds pictures, and also train.npy"),
        ({"x.npy": ROWS[:0]}, "holds no images"),
        ({"train.npz": {"images": ROWS}, "x.npz": {"train_images": ROWS}}, "both hold `train_images`"),
        ({"x.zip": None}, "x.zip is packed: unpack it"),
    ],
)
def test_arrays_that_may_mean_several_things_are_refused(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    (tmp_path / "sub").mkdir()
    for name, held in files.items():
        with (tmp_path / name).open("wb") as file:
            if held is None:
                Image.new("RGB", (8, 8)).save(file, "PNG")
            elif isinstance(held, dict):
                np.savez(file, **held)
            else:
                np.save(file, held)
    place = tmp_path / "x.zip" if "x.zip" in files else tmp_path
    with pytest.raises(DataError, match=message):
        find_source(settings(), place)


@pytest.mark.parametrize("labels", [np.array([0.0, 1.0]), np.array([[0, 1], [1, 0]]), np.array([0])])
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", images=random_images(2), labels=labels)
    with pytest.raises(DataError, match="labels"):
        open_splits(settings(), tmp_path / "x.npz")


def test_the_class_of_a_picture_is_its_folder(tmp_path: Path) -> None:
    for name, count in (("train/ape", 2), ("train/bee/young", 2), ("train/cat", 1), ("valid/cat", 2)):
        write_images(tmp_path / name, random_images(count))
    splits = open_splits(settings(classes=3), tmp_path)
    labels = [split.labels(range(len(split))) for split in (splits.train, splits.validation)]
    assert [classes.tolist() for classes in labels if classes is not None] == [[0, 0, 1, 1, 2], [2, 2]]
    with pytest.raises(
        DataError, match=r"`data.classes` is 4, and the images are in 3 folders, one per class, which are ape, bee, cat"
    ):
        open_splits(settings(classes=4), tmp_path)
    write_images(tmp_path / "valid/dog", random_images(1))
    with pytest.raises(DataError, match=r"dog.000.png is in none of the classes' folders, which are ape, bee, cat"):
        open_splits(settings(classes=3), tmp_path)


def test_object_arrays_are_refused_unread(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        open_splits(settings("arrays"), tmp_path / "x.npy")


def cifar_batch(count: int) -> dict[str, Any]:
    rows = np.random.default_rng(1).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": rows, "labels": [i % 10 for i in range(count)]}


@pytest.mark.parametrize("form", ["bin", "py"])
def test_both_published_forms_of_cifar10(tmp_path: Path, form: str) -> None:
    batch = cifar_batch(4)
    folder = tmp_path / f"cifar-10-batches-{form}"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        if form == "py":
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        else:
            labels = np.asarray(batch["labels"], np.uint8)[:, None]
            (folder / f"{name}.bin").write_bytes(np.concatenate([labels, batch["data"]], axis=1).tobytes())
    splits = open_splits(settings("cifar10", (3, 32, 32), holdout=5), tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (15, 5, 4)
    assert np.array_equal(splits.test.batch(range(4)).reshape(4, -1), batch["data"])


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/hvdsl-was-here"),)  # what a hostile file would run


@pytest.mark.parametrize("value", [Payload(), {"data": Payload()}, np.array([print], dtype=object)])
def test_a_pickle_that_asks_for_anything_else_is_refused(value: object) -> None:
    with pytest.raises(RefusedError):
        read_plain(pickle.dumps(value, protocol=2))


def test_damaged_pickles_are_refused() -> None:
    whole = pickle.dumps(cifar_batch(2), protocol=2)
    for i in range(0, 400, 3):
        with pytest.raises(RefusedError):
            read_plain(whole[:i])
        with contextlib.suppress(RefusedError):  # another byte may be another batch, but nothing else may be raised
            read_plain(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])


def test_missing_data_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data PATH"):
        open_splits(settings("cifar10"))
    with pytest.raises(DataError, match="does not exist"):
        open_splits(settings(), tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no \.png"):
        open_splits(settings(), tmp_path)


def test_a_holdout_that_takes_everything_is_refused() -> None:
    with pytest.raises(DataError, match="`holdout` takes 1500 of 1500"):
        open_splits(settings("digits", (1, 8, 8), holdout=1500))


@pytest.mark.parametrize(
    ("every", "other_epoch", "other_step"), [("once", True, True), ("epoch", False, True), ("access", True, False)]
)
def test_bernoulli_binarization_is_drawn_as_often_as_it_says(every: str, other_epoch: bool, other_step: bool) -> None:
    data = open_splits(settings("digits", (1, 8, 8), binarize="bernoulli", binarize_every=every))
    first = data.train.batch(range(50), 0, 0)
    assert set(np.unique(first)) == {0, 1}
    assert np.array_equal(first, data.train.batch(range(50), 0, 0))
    assert np.array_equal(first, data.train.batch(range(50), 1, 0)) is other_epoch
    assert np.array_equal(first, data.train.batch(range(50), 0, 1)) is other_step
    assert np.array_equal(data.test.batch(range(50), 0, 0), data.test.batch(range(50), 3, 4))  # one image to measure on


def test_flips_touch_training_images_only() -> None:
    plain = open_splits(settings("digits", (1, 8, 8)))
    flipped = open_splits(settings("digits", (1, 8, 8), flip=True))
    before, after = plain.train.batch(range(200)), flipped.train.batch(range(200))
    turned = sum(
        np.array_equal(a, b[:, :, ::-1]) and not np.array_equal(a, b) for a, b in zip(before, after, strict=True)
    )
    assert 60 < turned < 140
    assert np.array_equal(plain.test.batch(range(50)), flipped.test.batch(range(50)))


@pytest.mark.parametrize("bits", [8, 5, 3])
def test_bits_are_reduced_as_nvae_records_it(bits: int) -> None:
    golden = load_file(Path(__file__).parents[2] / "golden" / "nvae_cells" / "bit_depth.safetensors")
    image = golden["uint8"].to(torch.uint8).view(16, 16, 1).numpy()
    reduced = Preprocess(Data(name="arrays", shape=(1, 16, 16), bits=bits), training=False)(StoredImage(image), 0, 0)
    expected = golden[f"bits{bits}"].view(1, 16, 16)
    torch.testing.assert_close(torch.from_numpy(reduced / (2**bits - 1)).float(), expected)


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 9, 4), (3, 8, 9)])
def test_one_image_is_not_taken_for_many(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"one image in colour, or \d grey ones of .*`array\[None\]`"):
        open_splits(settings(), tmp_path / "x.npy")
