"""Two stages on the command line: an autoencoder, its codes, a prior per level, and what is made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hvdsl.cli.main import main
from hvdsl.runtime.codes.extract import stored_codes
from hvdsl.runtime.codes.levels import decode_codes
from hvdsl.runtime.data import open_splits
from hvdsl.runtime.inference.generate import reconstruct
from hvdsl.runtime.priors.wavefront import WavefrontBuffers
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import model_tensors
from hvdsl.workflows.stages import Autoencoder, extract, open_autoencoder

from .codes import CPU, refusal, sampled
from .conftest import Hvdsl

TINY = """hv 1
model codes_tiny
title "Two tiny levels of codes"
use "pixelsnail.hv"
let codes = 16
data photos { shape = 3x16x16, bits = 8, input = v / 127.5 - 1, flip = yes }
encoder {
  16: conv(4x4, 8, stride = 2) -> relu
   8: conv(3x3, 8) -> relu -> tap -> conv(4x4, 8, stride = 2) -> relu
   4: conv(3x3, 8) -> relu -> tap
}
decoder {
  4: {
    z_top ~ codebook(codes, 4, start = kmeans, expire = 0.1) posterior nearest_code(skip -> conv(1x1, 4))
    x = z_top
  }
  8: {
    above = conv(3x3, 8) -> relu -> upconv(4x4, 4)
    z_bottom ~ codebook(codes, 4, start = kmeans, expire = 0.1)
      posterior nearest_code(concat(above, skip) -> conv(1x1, 4))
    x = concat(z_top -> upconv(4x4, 4), z_bottom) -> conv(3x3, 16) -> relu
  }
  16: upconv(4x4, logits)
}
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
train { steps = 40, batch = 16, optimizer = adam(lr = 5e-3), log_every = 20, ema = 0.5 }
prior z_top {
  default conv { norm = weight }
  stem(16, 3) -> plain(1, inner = 8, k = 3) -> elu -> conv(1x1, codes)
}
prior z_bottom given z_top {
  default conv { norm = weight }
  cond = z_top -> condition(8, 1, up = 2)
  stem(16, 3) -> plain(1, inner = 8, k = 3, cond = cond) -> elu -> conv(1x1, codes)
}
train z_top { steps = 12, batch = 16, optimizer = adam(lr = 5e-3), log_every = 6, ema = 0.5, evaluate_every = 12 }
train z_bottom { steps = 6, batch = 16, optimizer = adam(lr = 5e-3), log_every = 6 }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all of its stages, on crops of the shipped photographs."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "tiny.hv").write_text(TINY)
    assert main(["train", str(folder / "tiny.hv"), "--stage", "all", "--out", str(folder / "run"), *CPU]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def opened(run: Path) -> Autoencoder:
    return open_autoencoder(Run.open(run), torch.device("cpu"))


def test_evaluation_reports_quality_usage_and_rates(hvdsl: Hvdsl, trained: Path) -> None:
    found = json.loads(hvdsl("eval", trained, "--json", *CPU).out)
    assert 10 < found["psnr_db"] < 40
    assert found["uniform_bits_per_image"] == 4 * (16 + 64)
    assert found["uniform_bits_per_dim"] == pytest.approx(320 / 768)
    assert found["prior_bits_per_dim"] == pytest.approx(found["prior_bits_per_image"] / 768)
    top, bottom = found["levels"]
    assert (top["level"], top["shape"], bottom["shape"]) == ("z_top", [4, 4], [8, 8])
    assert 0 < top["used_fraction"] <= 1 and 1 <= bottom["perplexity_codes"] <= 16
    assert top["prior_bits_per_image"] == pytest.approx(top["prior_nats_per_code"] * 16 / np.log(2))
    text = hvdsl("eval", trained, *CPU).out
    assert "PSNR" in text and "nats/code" in text


def test_codes_under_a_density_are_told_with_the_distortion(hvdsl: Hvdsl, tmp_path: Path) -> None:
    text = TINY[: TINY.index("prior z_top")].replace("likelihood mse", "likelihood laplace")
    (tmp_path / "density.hv").write_text(text.replace("mean_square", "nats_per_dim"))
    assert hvdsl("train", tmp_path / "density.hv", "--steps", "1", "--out", tmp_path / "run", *CPU).code == 0
    found = json.loads(hvdsl("eval", tmp_path / "run", "--json", *CPU).out)
    table = hvdsl("eval", tmp_path / "run", *CPU).out.splitlines()
    assert f"distortion {found['distortion']:.4f} nats/dim" in table[0]
    assert table[1].endswith(f"{found['bits_per_dim']:.4f} bits/dim with the distortion")


def test_every_stage_goes_on(hvdsl: Hvdsl, run: Path) -> None:
    assert hvdsl("train", "--resume", "--out", run, "--stage", "z_top", "--steps", "14", *CPU).code == 0
    assert hvdsl("train", "--resume", "--out", run, "--stage", "z_bottom", "--steps", "8", *CPU).code == 0
    again = hvdsl("train", "--resume", "--out", run, "--stage", "all", *CPU)
    assert again.code == 0
    assert (run / "priors/z_top/checkpoints/14").is_dir() and (run / "priors/z_bottom/checkpoints/8").is_dir()


def test_an_interrupted_prior_ends_where_an_uninterrupted_one_does(hvdsl: Hvdsl, run: Path) -> None:
    whole = load_file(run / "priors/z_bottom/checkpoints/6/model.safetensors")
    shutil.rmtree(run / "priors/z_bottom")
    train = ("train", "--resume", "--out", run, "--stage", "z_bottom", *CPU)
    assert hvdsl(*train, "--steps", "3").code == 0
    assert hvdsl(*train, "--steps", "6").code == 0
    resumed = load_file(run / "priors/z_bottom/checkpoints/6/model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_decoded_codes_are_the_reconstruction_bit_for_bit(trained: Path) -> None:
    first = opened(trained)
    data = first.model.settings.data
    images = open_splits(data).train.unaugmented()
    store = extract(first, open_splits(data).train, "train")
    pixels = torch.from_numpy(images.batch(range(8), 0).astype(np.float32))
    rows = torch.from_numpy(store.matrix[:8].astype(np.int64))
    codes = {"z_top": rows[:, :16].reshape(8, 4, 4), "z_bottom": rows[:, 16:].reshape(8, 8, 8)}
    [whole] = reconstruct(first.module, data, pixels, [2])
    assert torch.equal(decode_codes(first.module, data, codes), whole)


def test_codes_are_extracted_once_and_again_when_the_autoencoder_changes(run: Path) -> None:
    first = opened(run)
    images = open_splits(first.model.settings.data).validation
    written = (run / "codes/validation/codes.npy").stat().st_mtime_ns
    extract(first, images, "validation")
    assert (run / "codes/validation/codes.npy").stat().st_mtime_ns == written
    with torch.no_grad():
        next(iter(model_tensors(first.module).values())).mul_(1.5)
    changed = Autoencoder(first.run, first.model, first.module, first.step, "another digest")
    assert extract(changed, images, "validation").identity.autoencoder == "another digest"


def test_an_interrupted_extraction_leaves_nothing_and_is_done_anew(run: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 128:
            raise KeyboardInterrupt

    first = opened(run)
    images, folder = open_splits(first.model.settings.data).validation, run / "codes/interrupted"
    with pytest.raises(KeyboardInterrupt):
        stored_codes(first.module, images, folder, first.digest, progress=stop)
    assert sorted(path.name for path in (run / "codes").iterdir()) == ["train", "validation"]
    assert (
        stored_codes(first.module, images, folder, first.digest).matrix == extract(first, images, "validation").matrix
    ).all()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_codes_go_out_and_come_back_as_pictures(hvdsl: Hvdsl, trained: Path, tmp_path: Path, suffix: str) -> None:
    codes = tmp_path / f"codes{suffix}"
    assert hvdsl("codes", trained, "--split", "validation", "-o", codes, *CPU).code == 0
    assert hvdsl("decode", trained, codes, "-o", tmp_path / "images.npy", *CPU).code == 0
    assert np.load(tmp_path / "images.npy").shape == (256, 16, 16, 3)
    if suffix == ".npz":
        with np.load(codes) as file:
            assert file["z_top"].shape == (256, 4, 4) and file["z_top"].dtype == np.uint8
            assert "autoencoder_sha256" in json.loads(str(file["metadata"]))


def test_samples_depend_on_the_seed_and_not_on_the_batch(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    one = sampled(hvdsl, trained, tmp_path / "a.png", "--seed", "3", "--batch", "4")
    # Convolutions of other batch sizes may round otherwise, which a pixel can show as one step.
    two = sampled(hvdsl, trained, tmp_path / "b.png", "--seed", "3", "--batch", "3")
    assert np.abs(one.astype(int) - two).max() <= 1
    other = sampled(hvdsl, trained, tmp_path / "c.png", "--seed", "4", "--temperature", "z_top=0.5", "--top-k", "3")
    assert (one != other).any()


def test_fixed_levels_and_unmasked_pixels_stay(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.npz"
    assert hvdsl("codes", trained, "--split", "validation", "-o", codes, *CPU).code == 0
    sampled(hvdsl, trained, tmp_path / "fixed.png", "--fix", f"z_top={codes}")
    mask = np.zeros((16, 16), np.uint8)
    Image.fromarray(mask).save(tmp_path / "nothing.png")
    kept = sampled(hvdsl, trained, tmp_path / "kept.png", "--keep", codes, "--mask", tmp_path / "nothing.png")
    both = ("--fix", f"z_top={codes}", "--fix", f"z_bottom={codes}")
    assert (kept == sampled(hvdsl, trained, tmp_path / "all.png", *both)).all()
    mask[8:] = 255
    Image.fromarray(mask).save(tmp_path / "half.png")
    painted = sampled(hvdsl, trained, tmp_path / "painted.png", "--keep", codes, "--mask", tmp_path / "half.png")
    assert (painted != kept).any()


def test_sampling_takes_the_settings_of_the_command_line(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    greedy = sampled(hvdsl, trained, tmp_path / "greedy.png", "--temperature", "0")
    assert (greedy == sampled(hvdsl, trained, tmp_path / "set.png", "--set", "sample.temperature=0")).all()


def test_options_of_sampling_that_change_nothing_are_refused(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.npz"
    np.savez(codes, z_top=np.zeros((1, 4, 4), np.int64))
    sample = ("sample", trained, "-n", "1", "-o", tmp_path / "x.png")
    for options, told in (
        (("--mean",), "the likelihood's mean already"),
        (("--recalibrate", "2"), "continuous latents"),
        (("--label", "1"), "no classes"),
        (("--temperature", "z_middle=0.5"), "no level `z_middle`"),
        (("--top-k", "z_top=3", "--fix", f"z_top={codes}"), "`z_top` are taken from a file"),
        (("--keep", codes), "give both"),
    ):
        assert told in refusal(hvdsl, *sample, *options, code=2)
    assert "no codes of `z_bottom`" in refusal(hvdsl, *sample, "--fix", f"z_bottom={codes}")
    assert not (tmp_path / "x.png").exists()


def test_the_schedule_changes_how_codes_are_drawn_and_not_which(
    hvdsl: Hvdsl, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = sampled(hvdsl, trained, tmp_path / "raster.png", "--seed", "5", "--schedule", "raster")
    fronts: list[str] = []
    fill = WavefrontBuffers.fill
    monkeypatch.setattr(WavefrontBuffers, "fill", lambda self, *a: (fronts.append(str(self.grid)), fill(self, *a)))
    drawn = sampled(hvdsl, trained, tmp_path / "front.png", "--seed", "5", "--schedule", "z_bottom=wavefront")
    assert fronts == ["(8, 8)"]
    assert np.abs(drawn.astype(int) - usual).max() <= 1


def test_a_schedule_is_one_of_two_and_of_a_level(hvdsl: Hvdsl, trained: Path) -> None:
    assert "raster" in hvdsl("sample", trained, "--schedule", "spiral").err
    assert "no level `z`" in refusal(hvdsl, "sample", trained, "--schedule", "z=raster", code=2)


def test_without_priors_there_are_no_samples(hvdsl: Hvdsl, run: Path) -> None:
    shutil.rmtree(run / "priors")
    assert "no trained prior" in refusal(hvdsl, "sample", run)


def test_a_prior_of_other_codes_is_refused(hvdsl: Hvdsl, run: Path) -> None:
    assert hvdsl("train", "--resume", "--out", run, "--steps", "42", *CPU).code == 0
    assert "trained on other codes" in refusal(hvdsl, "sample", run)
    assert "trained on other codes" in refusal(hvdsl, "train", "--resume", "--out", run, "--stage", "z_top")
    assert "trained on other codes" in refusal(hvdsl, "eval", run)


def test_codes_that_do_not_fit_are_refused(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    top, bottom = np.zeros((2, 4, 4), np.int64), np.zeros((2, 8, 8), np.int64)
    bad = tmp_path / "bad.npz"
    for arrays, told in (
        ({"z_top": top}, "no codes of `z_bottom`"),
        ({"z_top": top, "z_bottom": bottom[:, :4]}, "of another model"),
        ({"z_top": top + 16, "z_bottom": bottom}, "run from 16 to 16"),
        ({"z_top": top + 0.5, "z_bottom": bottom}, "whole numbers"),
        ({"z_top": top[:1], "z_bottom": bottom}, "1 images at one level and 2"),
        ({"z_top": top[:0], "z_bottom": bottom[:0]}, "no images"),
        ({"z_top": np.array([{}], dtype=object), "z_bottom": bottom}, "cannot be read as codes"),
        ({"z_top": top, "z_bottom": bottom, "metadata": np.array("no JSON")}, "cannot be read as codes"),
        ({"z_top": top, "z_bottom": bottom, "metadata": np.array("[]")}, "`metadata` is no JSON object"),
    ):
        np.savez(bad, **arrays)  # type: ignore[arg-type]  # the stub takes one keyword's type for all
        assert told in refusal(hvdsl, "decode", trained, bad, "-o", tmp_path / "x.png")
    for name in ("text.npz", "text.safetensors"):
        (tmp_path / name).write_bytes(b"not codes at all")
        assert "cannot be read as codes" in refusal(hvdsl, "decode", trained, tmp_path / name, "-o", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_codes_of_another_model_of_equal_shape_are_refused(hvdsl: Hvdsl, run: Path, tmp_path: Path) -> None:
    files = [tmp_path / "codes.npz", tmp_path / "codes.safetensors"]
    for codes in files:
        assert hvdsl("codes", run, "--split", "validation", "-o", codes, *CPU).code == 0
    assert hvdsl("train", "--resume", "--out", run, "--steps", "41", *CPU).code == 0
    for codes in files:
        told = refusal(hvdsl, "decode", run, codes, "-o", tmp_path / "x.png")
        assert f"the codes in {codes} are of another model: they were made by codes_tiny with digest" in told
    assert "of another model" in refusal(hvdsl, "sample", run, "--fix", f"z_top={files[0]}")
    assert hvdsl("decode", run, files[0], "--step", "40", "-o", tmp_path / "x.png", *CPU).code == 0


def test_a_damaged_store_is_one_sentence(hvdsl: Hvdsl, run: Path, tmp_path: Path) -> None:
    matrix = run / "codes/validation/codes.npy"
    whole = matrix.read_bytes()
    matrix.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # another code, if it is one
    assert "damaged" in refusal(hvdsl, "codes", run, "--split", "validation", "-o", tmp_path / "c.npz")
    assert "codes/validation" in hvdsl("verify", run).out.partition("DAMAGED")[2]
    for header in (whole[:-100], whole[:30] + b"(" * 40 + whole[70:]):  # cut short; no Python any more
        matrix.write_bytes(header)
        assert "damaged" in refusal(hvdsl, "codes", run, "--split", "validation", "-o", tmp_path / "c.npz")
    (run / "codes/validation/manifest.json").write_text('{"format": 1, "levels": [{}]}')
    assert "damaged" in refusal(hvdsl, "codes", run, "--split", "validation", "-o", tmp_path / "c.npz")
    assert not (tmp_path / "c.npz").exists()


def test_stages_that_are_not_there(hvdsl: Hvdsl, run: Path, tmp_path: Path) -> None:
    stage = ("train", "--out", run, "--stage")
    assert "no stage `z_middle`" in refusal(hvdsl, *stage, "z_middle", code=2)
    assert "exists already" in refusal(hvdsl, *stage, "z_top")
    (tmp_path / "spec.hv").write_text(TINY[: TINY.index("train z_bottom")])
    shutil.rmtree(run / "priors/z_bottom")
    assert "no `train z_bottom`" in refusal(hvdsl, "train", tmp_path / "spec.hv", *stage[1:], "z_bottom")
    shutil.rmtree(run / "checkpoints")
    assert "no complete checkpoint" in refusal(hvdsl, *stage, "z_bottom")
    assert not (run / "priors/z_bottom").exists()
