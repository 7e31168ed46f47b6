"""The hand-written VDVAE is the published model, by itself and with its draws left to the traversal."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.latents import LatentGroup, Source, Traversal
from hvdsl.runtime.likelihoods import DiscretizedLogisticMixture

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "benchmarks" / "handwritten_vdvae.py"
CASES = ("a_8bit_32px", "b_5bit_64px", "c_custom_widths")


@pytest.fixture(scope="module")
def handwritten():
    spec = importlib.util.spec_from_file_location("handwritten_vdvae", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Case:
    def __init__(self, name, handwritten):
        folder = TESTS / "golden" / "vdvae" / name
        self.facts = json.loads((folder / "case.json").read_text())
        self.io = load_file(folder / "io.safetensors")
        self.grads = load_file(folder / "grads.safetensors")
        h = self.facts["hyperparameters"]
        widths = [entry.split(":") for entry in h["custom_width_str"].split(",") if entry]
        self.model = handwritten.Vdvae(
            handwritten.Config(
                image_size=h["image_size"],
                width=h["width"],
                zdim=h["zdim"],
                encoder=h["enc_blocks"],
                decoder=h["dec_blocks"],
                mixtures=h["num_mixtures"],
                bits=self.facts["n_bits"],
                bottleneck=h["bottleneck_multiple"],
                no_bias_above=h["no_bias_above"],
                widths={int(r): int(w) for r, w in widths},
            )
        )
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        self.groups = self.facts["n_groups"]
        self.batch = (self.nchw("x_in"), self.nchw("x_target"), [self.io[f"eps.{i:03d}"] for i in range(self.groups)])

    def nchw(self, key):
        return self.io[key].permute(0, 3, 1, 2)


@pytest.fixture(scope="module", params=CASES)
def case(request, handwritten):
    return Case(request.param, handwritten)


def close(result, recorded, limit):
    torch.testing.assert_close(result, recorded, rtol=limit, atol=limit)


def test_distortion_and_rate_of_every_group(case):
    with torch.no_grad():
        distortion, rates = case.model(*case.batch)
    close(distortion, case.io["distortion"], 1e-5)
    close(rates, case.io["kl"], 1e-5)
    close(rates.sum(0) / case.batch[1][0].numel(), case.io["rate"], 1e-5)


def test_float64(case):
    x, target, noise = case.batch
    model = case.model.double()
    try:
        with torch.no_grad():
            distortion, rates = model(x.double(), target.double(), [eps.double() for eps in noise])
    finally:
        case.model.float()
    facts = case.facts["float64"]
    close(distortion, torch.tensor(facts["distortion_per_image"], dtype=torch.float64), 1e-9)
    close(rates, torch.tensor(facts["kl_per_group_per_image"], dtype=torch.float64), 1e-9)


def test_gradients(case):
    case.model.zero_grad()
    loss = case.model.loss(*case.batch)
    loss.backward()
    close(loss.detach(), torch.tensor(case.facts["float32"]["elbo"]), 1e-5)
    parameters = dict(case.model.named_parameters())
    for name, recorded in case.grads.items():
        assert (parameters[name].grad - recorded).abs().max() <= 1e-3 * recorded.abs().max(), name
    for name, recorded in case.facts["grads"]["l2_per_param"].items():
        assert parameters[name].grad.norm().item() == pytest.approx(recorded, rel=1e-3, abs=1e-6), name


def walk(model, features, latents):
    """The hand-written decoder with its draws left to a traversal; gives the likelihood's parameters."""
    decoder = model.decoder
    streams = decoder.streams(latents.batch, decoder.gain)
    for i, (group, (r, source)) in enumerate(zip(decoder.dec_blocks, decoder.blocks, strict=True)):
        x = decoder.mixed(streams, r, source)
        prior, feature = group.prior(x).split((2 * group.zdim, x.shape[1]), 1)
        posterior = None
        if latents[i].inferred:
            posterior = Normal(group.enc(torch.cat((x, features[r]), 1)))
        streams[r] = group.merge(x, feature, latents[i].draw(Normal(prior), posterior))
    return decoder.head(streams)


def latent_groups(case):
    return [LatentGroup("z", f"z.{i}", "normal", tuple(shape)) for i, shape in enumerate(case.facts["group_shapes"])]


def test_a_traversal_infers_the_recorded_latents(case):
    x, _, eps = case.batch
    latents = Traversal.infer(latent_groups(case), len(x), RecordedNoise(len(x), eps))
    with torch.no_grad():
        walk(case.model, case.model.encoder(x), latents)
    close(latents.rates, case.io["kl"], 1e-5)
    assert len(latents.z) == case.groups > 1
    for i, z in enumerate(latents.z):
        close(z, case.io[f"z.{i:03d}"], 1e-4)


def test_posterior_means_are_the_pass_without_noise(case):
    x, target, _ = case.batch
    latents = Traversal(latent_groups(case), len(x), sources=Source.POSTERIOR_MEAN)
    with torch.no_grad():
        walk(case.model, case.model.encoder(x), latents)
    rate = latents.rates.sum(0).mean() / target[0].numel()
    close(rate, torch.tensor(case.facts["eps_zero_float32"]["rate"]), 1e-5)


def test_samples_from_recorded_noise(case):
    """Pure samples, temperatures per group, and samples whose first latents are given."""
    tags = [tag for tag in case.facts["samples"] if f"{tag}.image_float" in case.io]
    assert "sample_partial" in tags
    for tag in tags:
        facts = case.facts["samples"][tag]
        first = facts["first_sampled_group"]
        given = [case.io[f"z.{i:03d}"] for i in range(first)]
        eps = [None] * first + [case.io[f"{tag}.eps.{i:03d}"] for i in range(first, case.groups)]
        uniforms = {
            "likelihood.mixture": case.nchw(f"{tag}.mix_uniform"),
            "likelihood.logistic": case.nchw(f"{tag}.logistic_uniform"),
        }
        noise = RecordedNoise(facts["n"], eps, uniforms)
        latents = Traversal.generate(latent_groups(case), facts["n"], noise, facts["temperature"], given=given)
        with torch.no_grad():
            params = walk(case.model, None, latents)
        if not first:
            temperatures = latents.temperatures
            with torch.no_grad():
                close(case.model.decoder.generate(eps, temperatures), params, 1e-4)
        likelihood = DiscretizedLogisticMixture(
            case.model.config.mixtures, channels=3, bits=case.facts["n_bits"], bins="published"
        )
        close(likelihood.sample(params, noise), case.nchw(f"{tag}.image_float"), 1e-4)


def test_published_cifar10_size(handwritten):
    with torch.device("meta"):
        model = handwritten.Vdvae(handwritten.CIFAR10)
    assert sum(p.numel() for p in model.parameters()) == 39_145_700
