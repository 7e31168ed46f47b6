"""The hand-written VDVAE is the published model: recorded activations, rates, gradients and samples."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hvdsl.runtime.likelihoods import DiscretizedLogisticMixture
from hvdsl.runtime.noise import RecordedNoise

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


def close(found, recorded, limit):
    assert ((found - recorded).abs() / (1 + recorded.abs())).max() <= limit


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


def test_samples_from_recorded_noise(case):
    for tag, facts in case.facts["samples"].items():
        if facts["first_sampled_group"] or f"{tag}.eps.000" not in case.io:
            continue
        noise = [case.io[f"{tag}.eps.{i:03d}"] for i in range(case.groups)]
        temperature = facts["temperature"]
        temperatures = temperature if isinstance(temperature, list) else [temperature] * case.groups
        with torch.no_grad():
            params = case.model.decoder.generate(noise, temperatures)
        likelihood = DiscretizedLogisticMixture(
            case.model.config.mixtures, channels=3, bits=case.facts["n_bits"], bins="published"
        )
        uniforms = RecordedNoise(
            len(params),
            streams={
                "likelihood.mixture": case.nchw(f"{tag}.mix_uniform"),
                "likelihood.logistic": case.nchw(f"{tag}.logistic_uniform"),
            },
        )
        close(likelihood.sample(params, uniforms), case.nchw(f"{tag}.image_float"), 1e-4)


def test_published_cifar10_size(handwritten):
    with torch.device("meta"):
        model = handwritten.Vdvae(handwritten.CIFAR10)
    assert sum(p.numel() for p in model.parameters()) == 39_145_700
