"""Independent bits."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.likelihoods import Bernoulli
from hvdsl.runtime.likelihoods.base import bits_per_dim

GOLDEN = Path(__file__).parents[2] / "golden" / "nvae_cells" / "bernoulli_crop.safetensors"


def test_cropped_score_is_the_recorded_one():
    g = load_file(GOLDEN)
    likelihood = Bernoulli(crop=2)
    logits = g["logits"].requires_grad_()
    nll = -likelihood.log_prob(logits, g["x"])
    torch.testing.assert_close(nll.detach(), g["recon_loss"], rtol=1e-5, atol=1e-4)
    nll.sum().backward()
    torch.testing.assert_close(logits.grad, g["g.logits"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(likelihood.mean(logits).detach(), g["mean"])
    assert likelihood.dims((1, 32, 32)) == 784


def test_probabilities_of_all_images_sum_to_one():
    logits = torch.tensor([-2.0, 0.3, 5.0]).reshape(1, 1, 1, 3).expand(8, 1, 1, 3)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).reshape(8, 1, 1, 3)
    assert Bernoulli().log_prob(logits, images).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_samples_follow_the_probability_and_the_temperature():
    logits = torch.full((1, 1, 100, 100), 1.0)
    noise = SampleNoise(0, [0])
    assert Bernoulli().sample(logits, noise).mean().item() == pytest.approx(0.731, abs=0.02)
    assert Bernoulli().sample(logits, noise, temperature=0.5).mean().item() == pytest.approx(0.881, abs=0.02)
    assert Bernoulli().sample(logits, noise, temperature=0).eq(1).all()


def test_negative_crop_is_refused():
    with pytest.raises(ValueError, match="0 or more, not -1"):
        Bernoulli(crop=-1)


def test_bits_per_dim_of_one_nat():
    assert bits_per_dim(1.0, 2) == pytest.approx(0.7213475)
