"""What comes out of a trained run: images in every form, latents and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvdsl as library
from hvdsl.compiler.settings import Data
from hvdsl.runtime.inference.image_files import ImageFolder, ImageOutput, file_names, write_images
from hvdsl.workflows.images import raw_pixels
from hvdsl.workflows.sample import SampleOptions
from hvdsl.workflows.sample_files import page_columns

from .conftest import Hvdsl

CPU = ("--device", "cpu")


def test_an_output_obeys_its_ending(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path) -> None:
    for output in ("page.png", "array.npy", "arrays.npz", "folder/", "plain"):
        result = hvdsl("sample", digits_run, "-n", "4", "-o", f"{tmp_path}/{output}", *CPU)
        assert result.code == 0, result.err
    array = np.load(tmp_path / "array.npy")
    assert (
        array.shape == (4, 8, 8, 1)
        and array.dtype == np.uint8
        and set(array.flatten().tolist()) <= {17 * i for i in range(16)}
    )
    assert np.array_equal(np.load(tmp_path / "arrays.npz")["images"], array)
    for folder in ("folder", "plain"):
        files = sorted((tmp_path / folder).glob("*.png"))
        assert [file.stem for file in files] == ["00000", "00001", "00002", "00003"]
        drawn = np.stack([np.asarray(Image.open(file)) for file in files])
        assert np.array_equal(drawn, array[..., 0])
    with Image.open(tmp_path / "page.png") as page:
        assert page.width > 16
    trained = library.load(digits_run, device="cpu")
    for output in ("array.npy", "folder"):  # the data section reads what was written
        assert torch.equal(raw_pixels(tmp_path / output, trained.spec.model.settings.data), trained.sample(4).float())


@pytest.mark.parametrize("command", ["sample", "reconstruct"])
def test_another_ending_is_refused_with_the_list(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path, command: str) -> None:
    result = hvdsl(command, digits_run, "-o", tmp_path / "x.jpg", *CPU)
    assert result.code == 2
    assert all(form in result.err for form in (".png", ".npy", ".npz", "folder"))
    assert not (tmp_path / "x.jpg").exists()


def test_a_chart_obeys_its_ending(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path) -> None:
    assert hvdsl("eval", digits_run, "-o", tmp_path / "rates.svg", *CPU).code == 0
    assert "decoder.r1" in (tmp_path / "rates.svg").read_text() or "z 2x1x1" in (tmp_path / "rates.svg").read_text()
    assert hvdsl("eval", digits_run, "-o", tmp_path / "rates.pdf", *CPU).code == 0
    assert (tmp_path / "rates.pdf").read_bytes().startswith(b"%PDF")
    result = hvdsl("eval", digits_run, "-o", tmp_path / "rates.jpg", *CPU)
    assert result.code == 2 and ".png, .svg, .pdf" in result.err


def test_a_folder_of_samples_goes_on_where_it_was_left(
    hvdsl: Hvdsl, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("sample", digits_run, "-n", "20", "--batch", "4", "--temperature", "0.7", *CPU)
    assert hvdsl(*arguments, "-o", f"{tmp_path}/whole/").code == 0

    written = 0
    write = ImageFolder.write

    def stop_at_six(self, indices, images):  # type: ignore[no-untyped-def]
        nonlocal written
        for index, image in zip(indices, images, strict=True):
            if written == 6:
                raise KeyboardInterrupt
            write(self, [index], image[None])
            written += 1

    monkeypatch.setattr(ImageFolder, "write", stop_at_six)
    assert hvdsl(*arguments, "-o", f"{tmp_path}/parts/").code == 130
    assert len(list((tmp_path / "parts").glob("*.png"))) == 6
    monkeypatch.setattr(ImageFolder, "write", write)
    again = hvdsl(*arguments, "-o", f"{tmp_path}/parts/")
    assert again.code == 0 and "20 PNGs, 6 of them from before" in again.err
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / file.name).read_bytes() == file.read_bytes()

    other = hvdsl("sample", digits_run, "-n", "20", "--batch", "4", "-o", f"{tmp_path}/parts/", *CPU)
    assert other.code == 2 and "`temperature`" in other.err and "give a new folder" in other.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused = hvdsl("sample", digits_run, "-n", "2", "-o", tmp_path / "mine", *CPU)
    assert refused.code == 2 and "holds files already" in refused.err


def data(**settings: object) -> Data:
    return Data.model_validate({"name": "images", **settings})


def test_deep_and_real_pixels_are_written_as_they_are(tmp_path: Path) -> None:
    deep = torch.tensor([[[[0, 1], [600, 1023]]]])
    write_images(ImageOutput.of(f"{tmp_path}/deep/"), deep, data(shape=(1, 2, 2), bits=10))
    with Image.open(tmp_path / "deep" / "00000.png") as picture:
        assert picture.mode == "I;16"
        assert np.array_equal(np.asarray(picture) >> 6, deep[0, 0].numpy())
    real = torch.tensor([[[[-1.5, 0.25], [7.0, 1e6]]]])
    words = write_images(ImageOutput.of(f"{tmp_path}/real/"), real, data(shape=(1, 2, 2), values="real"))
    assert "a PNG cannot hold them" in words
    assert np.array_equal(np.load(tmp_path / "real" / "00000.npy")[..., 0], real[0, 0].numpy())
    words = write_images(ImageOutput.of(tmp_path / "page.png"), real, data(shape=(1, 2, 2), values="real"))
    assert "from -1.5 (black) to 1e+06 (white)" in words


def test_files_are_called_after_the_images() -> None:
    assert file_names(["cat/a.jpg", "b.jpg"], 2) == ["cat/a", "b"]
    assert file_names(["a.jpg", "a.png"], 2) == ["a.jpg", "a.png"]
    for names in (["../a.jpg"], ["image 0 of x.npy"], []):
        assert file_names(names, 1) == ["00000"]


def test_latents_go_out_and_come_back(hvdsl: Hvdsl, digits_run: Path, digit_files: Path, tmp_path: Path) -> None:
    for place in ("latents.npz", "latents/"):
        result = hvdsl("encode", digits_run, "--data", digit_files, "-o", f"{tmp_path}/{place}", *CPU)
        assert result.code == 0 and "8 latent groups of 6 images" in result.err, result.err
    arrays, name = np.load(tmp_path / "latents.npz"), "decoder.r8.layer.0.z"
    assert arrays["names"].tolist() == [f"{letter}.png" for letter in "abcdef"]
    assert arrays[f"{name}.mean"].shape == arrays[f"{name}.sample"].shape == arrays[name].shape == (6, 2, 8, 8)
    assert (arrays[f"{name}.scale"] > 0).all() and arrays[f"{name}.rate"].shape == (6,)
    assert not np.array_equal(arrays[f"{name}.sample"], arrays[name])
    trained = library.load(digits_run, device="cpu")
    place = list(trained.encode(digit_files)).index(name)
    assert np.allclose(arrays[f"{name}.rate"], trained.elbo(digit_files).rates[:, place].numpy(), rtol=1e-5)
    for place in ("latents.npz", "latents"):
        assert hvdsl("decode", digits_run, tmp_path / place, "-o", tmp_path / "decoded.npy", *CPU).code == 0
        assert hvdsl("reconstruct", digits_run, "--data", digit_files, "-o", tmp_path / "again.npy", *CPU).code == 0
        assert np.array_equal(np.load(tmp_path / "decoded.npy"), np.load(tmp_path / "again.npy"))


def test_some_groups_can_be_taken_and_the_rest_drawn(
    hvdsl: Hvdsl, digits_run: Path, digit_files: Path, tmp_path: Path
) -> None:
    file = tmp_path / "coarse.npz"
    result = hvdsl("encode", digits_run, "--data", digit_files, "--groups", "0:2,4x4", "-o", file, *CPU)
    assert result.code == 0, result.err
    held = json.loads(json.loads(str(np.load(file)["metadata"]))["groups"])
    assert {group["shape"][1] for group in held} == {1, 4}
    assert hvdsl("decode", digits_run, file, "-o", tmp_path / "a/", "--seed", "1", *CPU).code == 0
    assert hvdsl("decode", digits_run, file, "-o", tmp_path / "b/", "--seed", "2", *CPU).code == 0
    fixed = hvdsl("sample", digits_run, "-n", "2", "--fix", f"z.0={file}", "-o", tmp_path / "fixed.png", *CPU)
    assert fixed.code == 0, fixed.err
    missing = hvdsl("sample", digits_run, "-n", "2", "--fix", f"8x8={file}", "-o", tmp_path / "x.png", *CPU)
    assert missing.code == 1 and "has no latents of `decoder.r8.layer.0.z`" in missing.err
    for word in ("17", "w", "16x16"):
        refused = hvdsl("encode", digits_run, "--groups", word, "-o", tmp_path / "x.npz", *CPU)
        assert refused.code == 2 and f"no latent group `{word}`" in refused.err


def test_each_resolution_can_have_its_temperature(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path) -> None:
    def drawn(*temperature: str) -> bytes:
        out = tmp_path / "t.png"
        options = [word for t in temperature for word in ("--temperature", t)]
        result = hvdsl("sample", digits_run, "-n", "2", *options, "-o", out, *CPU)
        assert result.code == 0, result.err
        return out.read_bytes()

    assert drawn("8: 0.2, else: 0.9") == drawn("0.9", "8x8=0.2") != drawn("0.9")
    assert drawn("else: 0.9") == drawn("0.9")
    refused = hvdsl("sample", digits_run, "--temperature", "3: 0.2, w: 0.9", *CPU)
    assert refused.code == 2 and "no latent group `w`" in refused.err


def test_latents_of_another_model_are_refused(
    hvdsl: Hvdsl, digits_run: Path, digit_files: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.npz"
    assert hvdsl("encode", digits_run, "--no-ema", "--data", digit_files, "-o", file, *CPU).code == 0
    refused = hvdsl("decode", digits_run, file, "-o", tmp_path / "x.png", *CPU)
    assert refused.code == 1 and "of another model" in refused.err
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    for bad, words in {"bad.npz": "cannot be read", "none.npz": "does not exist", ".": "holds no latents"}.items():
        refused = hvdsl("decode", digits_run, tmp_path / bad, "-o", tmp_path / "x.png", *CPU)
        assert refused.code == 1 and words in refused.err


def test_a_hole_in_digits_is_painted_in_better_than_by_the_mean(hvdsl: Hvdsl, digits_run: Path, tmp_path: Path) -> None:
    hole = np.zeros((8, 8), bool)
    hole[2:5, 2:5] = True
    Image.fromarray(hole).save(tmp_path / "hole.png")
    digits = library.open_data("vdvae_digits").test.batch(range(32))
    np.save(tmp_path / "digits.npy", digits * 17)
    for output in ("page.png", "painted.npy"):
        result = hvdsl(
            "reconstruct", digits_run, "--data", tmp_path / "digits.npy", "--mask", tmp_path / "hole.png",
            "-o", tmp_path / output, "--steps", "30", *CPU,
        )  # fmt: skip
        assert result.code == 0, result.err
    painted = np.load(tmp_path / "painted.npy").transpose(0, 3, 1, 2) / 17  # as 8-bit greys
    assert np.array_equal(painted[:, :, ~hole], digits[:, :, ~hole])
    mean = digits[:, :, ~hole].mean(2, keepdims=True)
    inside = digits[:, :, hole].astype(float)

    def psnr(values: np.ndarray) -> float:
        return float(10 * np.log10(15**2 / np.square(values - inside).mean()))

    assert psnr(painted[:, :, hole]) > psnr(np.broadcast_to(mean, inside.shape)) + 1
    for options in (("--depths", "2"), ("--temperature", "0.5")):
        result = hvdsl("reconstruct", digits_run, "--mask", tmp_path / "hole.png", *options, *CPU)
        assert result.code == 2 and "leave out --depths and --temperature" in result.err


def test_classes_taken_in_turn_stand_in_columns() -> None:
    for options, columns in (
        (SampleOptions(n=40, given=(("label", "0,1,2,3,4,5,6,7,8,9"),)), 10),
        (SampleOptions(n=9, label=(4, 7)), 2),
        (SampleOptions(n=9, label=(4,)), None),
        (SampleOptions(n=2, given=(("label", "0,1,2"),)), None),
        (SampleOptions(n=9), None),
    ):
        assert page_columns(options) == columns
