"""`hvdsl.load` and what it returns: images in, scores, latents, pixels out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import hvdsl
from hvdsl.runtime.inference.generate import reconstruct
from hvdsl.runtime.inference.image_files import ImageOutput, write_images
from hvdsl.runtime.protocol import as_vae
from hvdsl.workflows.images import raw_pixels
from hvdsl.workflows.latents import decode

from .conftest import Loaded
from .models import one_file

UPWARDS = pytest.param("upwards", marks=pytest.mark.slow)
FAMILIES = ["families", "codes", "vdvae", "nvae", "flows", UPWARDS]


def pixels_for(trained: hvdsl.Trained, count: int = 3) -> Tensor:
    data = trained.spec.model.settings.data
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 2**data.bits, (count, *data.shape), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_encoded_decodes_to_the_reconstruction_bit_for_bit(name: str, loaded: Loaded) -> None:
    trained = loaded(name)
    images, data = pixels_for(trained), trained.spec.model.settings.data
    codes = trained.encode(images)
    groups = len(as_vae(trained.model).LATENTS)
    assert len(codes) == groups
    [whole] = reconstruct(trained.model, data, images.float(), [groups])
    assert torch.equal(decode(trained.model, data, codes, temperature=1.0, seed=0, batch=64), whole)
    assert torch.equal(trained.decode(codes), trained.reconstruct(images))


@pytest.mark.parametrize("name", ["families", "codes", "flows"])
def test_latents_are_told_group_by_group(name: str, loaded: Loaded) -> None:
    trained = loaded(name)
    images = pixels_for(trained)
    latents = trained.latents(images)
    for group, told in zip(as_vae(trained.model).LATENTS, latents, strict=True):
        assert told.family == group.family
        assert told.z.shape == (3, *group.shape)
        assert told.rate.shape == (3,) and told.rate.dtype == torch.float64
        continuous = group.family in ("normal", "laplace", "logistic")
        assert (told.mean is not None) == (told.scale is not None) == continuous
        assert (told.codes is None) == (group.codes is None)
        assert latents[told.name] is told
    assert latents.rates.shape == (3, len(latents))
    assert f"{len(latents)} groups" in repr(latents)
    with pytest.raises(hvdsl.Error, match="no latent group `nothing`"):
        latents["nothing"]


def test_a_posterior_without_a_flow_is_drawn_from_its_mean_and_scale(loaded: Loaded) -> None:
    trained = loaded("vdvae")
    images = pixels_for(trained, 64)
    first = trained.latents(images)[0]
    assert first.mean is not None and first.scale is not None
    eps = (first.z - first.mean) / first.scale
    assert eps.std().item() == pytest.approx(1, abs=0.3)
    mode = trained.latents(images, sample=False)[0]
    assert torch.equal(mode.z, mode.mean if mode.mean is not None else mode.z + 1)


def test_latents_can_be_edited_left_out_and_differentiated(loaded: Loaded) -> None:
    trained = loaded("families")
    images = pixels_for(trained)
    values = trained.encode(images)
    name = next(name for name, value in values.items() if value.is_floating_point())
    values[name] = values[name] + 3
    edited = trained.decode(values)
    assert edited.shape == images.shape and not torch.equal(edited, trained.reconstruct(images))
    del values[name]
    drawn = [trained.decode(values, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    for value in trained.latents(images):
        assert not value.z.is_inference()


def test_the_elbo_of_images_is_what_evaluation_averages(loaded: Loaded) -> None:
    trained = loaded("vdvae")
    images = pixels_for(trained, 5)
    for samples in (1, 2):
        each, whole = trained.elbo(images, samples=samples), trained.evaluate(images, samples=samples)
        assert each.bits_per_dim.mean().item() == pytest.approx(whole.bits_per_dim, rel=1e-6)
        assert torch.equal(each.elbo, trained.elbo(images, samples=samples, batch=5).elbo)
    each = trained.elbo(images)
    assert torch.allclose(-each.elbo, each.distortion + each.rates.sum(1))
    assert each.dims == 64 and each.nats_per_dim[0] == pytest.approx(-each.elbo[0].item() / 64)
    assert each.rates.sum().item() == pytest.approx(trained.latents(images).rates.sum().item(), rel=1e-6)


@pytest.mark.parametrize("name", ["vdvae", "nvae", "families"])
def test_nothing_depends_on_the_batch_but_memory(name: str, loaded: Loaded) -> None:
    trained = loaded(name)
    images = pixels_for(trained, 5)
    assert torch.allclose(trained.elbo(images, batch=2).elbo, trained.elbo(images).elbo, rtol=1e-4)
    many, few = trained.reconstruct(images, keep=1, batch=5), trained.reconstruct(images, keep=1, batch=2)
    assert (many.int() - few.int()).abs().max() <= 1
    assert (trained.sample(5, batch=2).int() - trained.sample(5).int()).abs().float().mean() < 0.1


def test_images_come_in_every_form(loaded: Loaded, tmp_path: Path) -> None:
    trained = loaded("flows")
    images = pixels_for(trained, 2)
    last = images.permute(0, 2, 3, 1)
    data = trained.spec.model.settings.data
    for i, picture in enumerate(last):
        Image.fromarray(picture.numpy()).save(tmp_path / f"{i}.png")
    paths = [tmp_path / "0.png", str(tmp_path / "1.png")]
    for form in (images.numpy(), last, last.numpy(), images.to(torch.int64), images.numpy().astype(np.uint16), paths):
        assert torch.equal(raw_pixels(form, data), images.float())
    assert torch.equal(raw_pixels(tmp_path / "1.png", data), images[1:].float())
    grey = loaded("vdvae")
    flat = pixels_for(grey)[:, 0]
    assert torch.equal(grey.elbo(flat).elbo, grey.elbo(flat[:, None]).elbo)


def test_images_that_do_not_fit_are_refused_in_a_sentence(loaded: Loaded, tmp_path: Path) -> None:
    trained = loaded("vdvae")
    images = pixels_for(trained)
    (tmp_path / "text.png").write_text("no picture")
    refused = {
        "nearly black": images.float() / 15,
        "4 bits, 0 … 15": images.int() + 10,
        "-1 to": images.int() - 1,
        r"takes \(N, 1, 8, 8\)": torch.zeros(3, 1, 9, 9, dtype=torch.uint8),
        "first axis": torch.zeros(8, 8, dtype=torch.uint8),
        "there are no images": images[:0],
        "cannot be read as an image": tmp_path / "text.png",
        "there is no image": tmp_path / "absent.png",
        "numbers": np.array(["a"]),
    }
    for told, given in refused.items():
        with pytest.raises(hvdsl.DataError, match=told):
            trained.elbo(given)


def test_wrong_latents_are_refused_in_a_sentence(loaded: Loaded) -> None:
    trained = loaded("families")
    values = trained.encode(pixels_for(trained))
    name = next(iter(values))
    refused = {
        "no latent group `z`": {"z": values[name]},
        "expected": {name: values[name][:, :1]},
        "different numbers of images": values | {name: values[name][:1]},
        "no latents are given": {},
    }
    for told, given in refused.items():
        with pytest.raises(hvdsl.Error, match=told):
            trained.decode(given)
    coded = loaded("codes")
    codes = coded.encode(pixels_for(coded))
    with pytest.raises(hvdsl.CodesError, match="run from"):
        coded.decode({"z": codes["z"] + 8})


def test_pixels_are_whole_numbers_in_the_units_of_the_data(loaded: Loaded) -> None:
    trained = loaded("vdvae")
    images = pixels_for(trained)
    for pixels in (trained.sample(3), trained.sample(3, mean=True), trained.reconstruct(images, keep=0)):
        assert pixels.dtype == torch.uint8 and pixels.max() <= 15 and pixels.shape == (3, 1, 8, 8)


def test_means_of_pixels_that_are_0_or_1_are_what_is_between(loaded: Loaded, tmp_path: Path) -> None:
    trained = loaded("black and white")
    data, images = trained.spec.model.settings.data, torch.arange(192).reshape(3, 1, 8, 8) % 2
    assert trained.sample(3).dtype == torch.uint8
    codes = trained.encode(images)
    means = {
        "sample": trained.sample(3, mean=True),
        "reconstruct": trained.reconstruct(images),
        "decode": trained.decode(codes),
        "interpolate": trained.interpolate(images[:1], images[1:2], steps=3),
    }
    for name, mean in means.items():
        assert mean.dtype == torch.float32 and mean.min() >= 0 and mean.max() <= 1, name
        assert not torch.equal(mean, mean.round()), name
    assert torch.equal(means["decode"], means["reconstruct"])
    mean = means["reconstruct"]
    write_images(ImageOutput.of(tmp_path / "means"), mean, data)
    write_images(ImageOutput.of(tmp_path / "means.npy"), mean, data)
    grey = (mean.double() * 255).round().to(torch.uint8)[:, 0].numpy()  # of 4 bits that were thresholded: one byte
    assert np.array_equal(np.asarray(Image.open(tmp_path / "means" / "00001.png")), grey[1])
    assert np.array_equal(np.load(tmp_path / "means.npy")[..., 0], grey)


def test_sampling_leaves_the_statistics_of_the_model(loaded: Loaded) -> None:
    trained = loaded("nvae")
    before = {name: buffer.clone() for name, buffer in trained.model.named_buffers()}
    plain = trained.sample(2, recalibrate=0)
    measured = trained.sample(2, recalibrate=2)
    assert torch.equal(trained.sample(2, recalibrate=0), plain)
    assert all(torch.equal(before[name], buffer) for name, buffer in trained.model.named_buffers())
    assert measured.shape == plain.shape


def test_a_run_a_checkpoint_and_a_file_are_the_same_model(digits_run: Path) -> None:
    run = hvdsl.load(digits_run, device="cpu")
    images = hvdsl.open_data(run.spec).test.batch(range(4))
    assert (run.step, run.run is not None) == (4, True)
    folder = hvdsl.load(digits_run / "checkpoints" / "4", device="cpu")
    assert torch.equal(folder.elbo(images).elbo, run.elbo(images).elbo)
    alone = hvdsl.load(digits_run / "checkpoints" / "4" / "ema.safetensors", device="cpu")
    assert (alone.step, alone.run) == (4, None)
    assert torch.equal(alone.elbo(images).elbo, run.elbo(images).elbo)
    last = hvdsl.load(digits_run, use_ema=False, device="cpu")
    assert not torch.equal(last.elbo(images).elbo, run.elbo(images).elbo)


def test_checkpoints_have_names(digits_run: Path) -> None:
    run = hvdsl.load(digits_run, device="cpu").run
    assert run is not None
    scores = {row["step"]: row["bits_per_dim"] for row in run.metrics() if row["event"] == "validation"}
    assert hvdsl.load(digits_run, checkpoint="best", device="cpu").step == min(scores, key=lambda step: scores[step])
    assert hvdsl.load(digits_run, checkpoint=2, device="cpu").step == 2
    with pytest.raises(hvdsl.CheckpointError, match="step 3"):
        hvdsl.load(digits_run, checkpoint=3, device="cpu")
    with pytest.raises(hvdsl.UsageError, match="one checkpoint already"):
        hvdsl.load(digits_run / "checkpoints" / "2", checkpoint="best", device="cpu")


def test_a_whole_run_is_evaluated_with_its_data(digits_run: Path) -> None:
    trained = hvdsl.load(digits_run, device="cpu")
    result = trained.evaluate(split="validation", baselines=True)
    assert result.split == "validation" and result.step == 4
    assert result.bits_per_dim == pytest.approx(result.bound.nats_per_dim / math.log(2))
    assert set(result.baselines) == {"png_bits_per_dim", "histogram_bits_per_dim"}
    with pytest.raises(hvdsl.UsageError, match="leave out"):
        trained.evaluate(pixels_for(trained), baselines=True)


def test_files_that_are_no_models_are_refused_in_a_sentence(loaded: Loaded, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    whole = one_file("vdvae", tmp_path).read_bytes()
    (tmp_path / "changed.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (tmp_path / "model.pt").write_bytes(b"nothing")
    refused = {
        "no spec in its metadata": "plain.safetensors",
        "cannot be read": "damaged.safetensors",
        "its content is not what the SHA-256": "changed.safetensors",
        "not a .safetensors file": "model.pt",
        "no run folder": "absent",
    }
    for told, name in refused.items():
        with pytest.raises(hvdsl.Error, match=told):
            hvdsl.load(tmp_path / name, device="cpu")


def test_options_of_codes_are_refused_elsewhere(loaded: Loaded) -> None:
    with pytest.raises(hvdsl.UsageError, match="models of codes"):
        loaded("vdvae").sample(2, top_k=3)
    with pytest.raises(hvdsl.Error, match="no priors beside it"):
        loaded("codes").sample(2)
    with pytest.raises(hvdsl.UsageError, match="number of images"):
        loaded("vdvae").sample(0)
