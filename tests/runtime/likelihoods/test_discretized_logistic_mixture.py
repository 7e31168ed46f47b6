"""The mixture of discretised logistics: recorded values of the published form, and the laws of the exact one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hvdsl.runtime.distributions import exp, softplus
from hvdsl.runtime.ground.noise import RecordedNoise, SampleNoise
from hvdsl.runtime.likelihoods import DiscretizedLogistic, DiscretizedLogisticMixture, DiscretizedNormal

GOLDEN = Path(__file__).parents[2] / "golden" / "dmol"
CASES = json.loads((GOLDEN / "case.json").read_text())["cases"]


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "dmol.safetensors")


def nchw(x):
    return x.permute(0, 3, 1, 2)


def published(case):
    return DiscretizedLogisticMixture(case["num_mixtures"], channels=3, bits=case["n_bits"], bins="published")


def nats_per_dim(likelihood, params, target):
    return -likelihood.log_prob(params, target) / target[0].numel()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_form_gives_the_recorded_values(golden, case):
    params = nchw(golden[f"{case['name']}.logits"]).requires_grad_()
    target = nchw(golden[f"{case['name']}.target"])
    likelihood = published(case)

    nll = nats_per_dim(likelihood, params, target)
    torch.testing.assert_close(nll, golden[f"{case['name']}.nll"], rtol=1e-5, atol=1e-5)

    (gradient,) = torch.autograd.grad(nll.sum(), params)
    recorded = nchw(golden[f"{case['name']}.grad_logits"])
    assert (gradient - recorded).abs().max() <= 1e-4 * (1 + recorded.abs().max())

    wide = nats_per_dim(likelihood, params.detach().double(), target.double())
    recorded = golden[f"{case['name']}.nll_f64"].double()
    torch.testing.assert_close(wide, recorded, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_samples_from_recorded_uniforms(golden, case):
    name = case["name"]
    noise = RecordedNoise(
        case["shape"][0],
        streams={
            "likelihood.mixture": nchw(golden[f"{name}.mix_uniform"]),
            "likelihood.logistic": nchw(golden[f"{name}.logistic_uniform"]),
        },
    )
    sample = published(case).sample(nchw(golden[f"{name}.logits"]), noise)
    torch.testing.assert_close(sample, nchw(golden[f"{name}.sample_float"]), rtol=1e-5, atol=1e-5)


def every_image(channels, bits):
    """All images of one pixel, as a batch."""
    grid = torch.linspace(-1, 1, 2**bits, dtype=torch.float64)
    return torch.cartesian_prod(*[grid] * channels).reshape(-1, channels, 1, 1)


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (1, 1), (2, 4), (3, 3), (4, 2)])
@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_exact_masses_sum_to_one(channels, bits, spread):
    likelihood = DiscretizedLogisticMixture(3, channels=channels, bits=bits)
    images = every_image(channels, bits)
    width = 3 * (1 + 2 * channels + channels * (channels - 1) // 2)
    params = spread * torch.randn(1, width, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    total = likelihood.log_prob(params.expand(len(images), -1, 1, 1), images).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("log_scale", [-6.9, -3.0, 0.0, 6.0])
def test_exact_form_keeps_float32_accuracy_far_from_the_mean(log_scale):
    x = torch.linspace(-1, 1, 256).reshape(-1, 1, 1, 1)
    params = torch.tensor([0.0, 0.31, log_scale]).reshape(1, 3, 1, 1).expand(256, 3, 1, 1)
    likelihood = DiscretizedLogisticMixture(1, channels=1)
    single = likelihood.log_prob(params, x)
    double = likelihood.log_prob(params.double(), x.double())
    assert ((single - double).abs() / (1 + double.abs())).max() < 2e-6


def test_exact_and_published_forms_agree_where_the_bin_mass_is_large():
    x = torch.linspace(-0.2, 0.2, 52)[None, None, None]
    x = (torch.round((x + 1) * 127.5) / 127.5) - 1
    params = torch.tensor([0.0, 0.0, -3.0]).reshape(1, 3, 1, 1).expand(1, 3, 1, 52)
    exact, reference = (
        DiscretizedLogisticMixture(1, channels=1, bins=bins).log_prob(params.double(), x.double())
        for bins in ("exact", "published")
    )
    torch.testing.assert_close(exact, reference, rtol=1e-9, atol=1e-9)


def test_published_form_departs_from_the_exact_one_in_the_tails():
    x = torch.full((1, 1, 1, 1), 0.2).double()
    params = torch.tensor([0.0, -0.1, -7.0]).double().reshape(1, 3, 1, 1)
    exact, reference = (
        -DiscretizedLogisticMixture(1, channels=1, bins=bins).log_prob(params, x) for bins in ("exact", "published")
    )
    assert reference - exact > 1  # nats


@pytest.mark.parametrize("raw", [-1e4, -200.0, 200.0, 1e4])
@pytest.mark.parametrize("bins", ["exact", "published"])
def test_any_scale_gives_finite_values_and_gradients(raw, bins):
    params = torch.tensor([0.0, 0.3, raw]).reshape(1, 3, 1, 1).requires_grad_()
    nll = -DiscretizedLogisticMixture(1, channels=1, bins=bins).log_prob(params, torch.zeros(1, 1, 1, 1))
    nll.sum().backward()
    assert nll.isfinite().all()
    assert params.grad.isfinite().all()


def test_half_precision_parameters_are_scored_in_float32():
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(2, 30, 4, 4, generator=generator).bfloat16()
    target = torch.zeros(2, 3, 4, 4)
    likelihood = DiscretizedLogisticMixture(3, channels=3)
    with torch.autocast("cpu", torch.bfloat16):
        nll = likelihood.log_prob(params, target)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, likelihood.log_prob(params.float(), target), rtol=1e-6, atol=1e-6)


def test_scale_map_of_the_mixture():
    raw = torch.tensor([0.7])
    x = torch.full((1, 1, 1, 1), 0.1)
    by_map = DiscretizedLogisticMixture(1, channels=1, scale=softplus(), lower=-250)
    by_log = DiscretizedLogisticMixture(1, channels=1, lower=-250)
    log_scale = torch.nn.functional.softplus(raw).log()
    torch.testing.assert_close(
        by_map.log_prob(torch.tensor([0.0, 0.2, 0.7]).reshape(1, 3, 1, 1), x),
        by_log.log_prob(torch.tensor([0.0, 0.2, log_scale.item()]).reshape(1, 3, 1, 1), x),
    )


def test_samples_follow_the_density():
    """The bin frequencies of many samples of one pixel are the masses of the exact form."""
    n, bits = 40_000, 3
    params = torch.tensor([0.3, -0.2, -0.4, 0.5, -1.0, -1.5]).reshape(1, 6, 1, 1).expand(n, 6, 1, 1)
    likelihood = DiscretizedLogisticMixture(2, channels=1, bits=bits)
    sample = likelihood.sample(params[:1].expand(1, 6, 1, n), SampleNoise(0, [0]))
    bins = torch.round((sample + 1) / 2 * (2**bits - 1)).long().flatten()
    frequency = torch.bincount(bins, minlength=2**bits) / n
    mass = likelihood.log_prob(params[: 2**bits], every_image(1, bits).float()).exp()
    assert (frequency - mass).abs().max() < 0.01


def test_temperature_zero_gives_the_likeliest_components_centre():
    params = torch.tensor([2.0, 1.0, 0.25, -0.5, -3.0, -3.0]).reshape(1, 6, 1, 1)
    sample = DiscretizedLogisticMixture(2, channels=1).sample(params, SampleNoise(0, [0]), temperature=0)
    assert sample.item() == 0.25


def test_mean_weights_components_and_passes_colours_on():
    # One component of two colours: green's mean takes tanh(r) times red.
    params = torch.tensor([0.0, 0.5, -3.0, 0.1, -3.0, 10.0]).reshape(1, 6, 1, 1)
    mean = DiscretizedLogisticMixture(1, channels=2).mean(params)
    torch.testing.assert_close(mean.flatten(), torch.tensor([0.5, 0.6]))


def test_errors_say_what_was_found_and_expected():
    likelihood = DiscretizedLogisticMixture(10, channels=3)
    with pytest.raises(ValueError, match="have 99 channels; 10 components of 3 colours need 100"):
        likelihood.log_prob(torch.zeros(1, 99, 2, 2), torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="target has 1 channels"):
        likelihood.log_prob(torch.zeros(1, 100, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="belong to `bins = published`"):
        DiscretizedLogisticMixture(10, channels=3, upper_edge=0.99)


def test_the_published_form_of_one_logistic_is_that_of_a_mixture_of_one():
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(2, 2, 9, 9, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 3.0]).view(2, 1, 1)
    target = torch.randint(0, 256, (2, 1, 9, 9), generator=generator).double() / 127.5 - 1
    target[:, :, 0] = torch.tensor([-1.0, 1, -1, 1, -1, 1, -1, 1, -1])
    single = DiscretizedLogistic(bits=8, bin=2 / 255, scale=exp(), bins="published")
    mixture = DiscretizedLogisticMixture(1, channels=1, bits=8, bins="published")
    found = single.log_prob(params, target)
    torch.testing.assert_close(found, mixture.log_prob(torch.cat((params[:, :1] * 0, params), 1), target))
    exact = DiscretizedLogistic(bits=8, bin=2 / 255, scale=exp()).log_prob(params, target)
    assert 0 < (found - exact).abs().max() < 10  # the density that stands in for improbable bins
    with pytest.raises(ValueError, match="`bins` is `exact` or `open`, not `published`"):
        DiscretizedNormal(bits=8, bin=2 / 255, bins="published")
