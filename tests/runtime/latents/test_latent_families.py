"""Laplace, logistic, bits and classes: against torch's own distributions, and as groups of a traversal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as reference

from hvdsl.runtime.distributions import (
    Laplace,
    Logistic,
    Normal,
    StraightThroughBernoulli,
    StraightThroughCategorical,
    relative,
)
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Given, LatentGroup, Source, Traversal

N, Z = 3, 4
FAMILIES: dict[str, Any] = {
    "normal": Normal,
    "laplace": Laplace,
    "logistic": Logistic,
    "bernoulli": StraightThroughBernoulli,
    "categorical": StraightThroughCategorical,
}
DISCRETE = ("bernoulli", "categorical")


def raw(family: str, seed: int, batch: int = N) -> Tensor:
    channels = Z if family in DISCRETE else 2 * Z
    return torch.randn(batch, channels, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(family: str, seed: int, batch: int = N) -> Any:
    return FAMILIES[family](raw(family, seed, batch))


def torchs(family: str, params: Tensor) -> reference.Distribution:
    if family == "bernoulli":
        return reference.Bernoulli(logits=params)
    if family == "categorical":
        return reference.OneHotCategorical(logits=params.movedim(1, -1))
    mean, log_scale = params.chunk(2, 1)
    if family == "logistic":
        base = reference.Uniform(torch.zeros_like(mean), torch.ones_like(mean))
        steps = [reference.SigmoidTransform().inv, reference.AffineTransform(mean, log_scale.exp())]
        return reference.TransformedDistribution(base, steps)
    return {"normal": reference.Normal, "laplace": reference.Laplace}[family](mean, log_scale.exp())


def noise(family: str, count: int) -> Tensor:
    drawn = FAMILIES[family].noise(SampleNoise(5, range(count)), "z", (Z, 2, 2))
    return drawn.double()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_density_is_torchs(family: str) -> None:
    z = made(family, 0).sample(noise(family, N))
    expected = torchs(family, raw(family, 1))
    found = made(family, 1).log_prob(z)
    wanted = expected.log_prob(z.movedim(1, -1))[:, None] if family == "categorical" else expected.log_prob(z)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("family", ["normal", "laplace", "bernoulli", "categorical"])
def test_the_closed_divergence_is_torchs_with_its_gradients(family: str) -> None:
    q, p = raw(family, 0).requires_grad_(), raw(family, 1).requires_grad_()
    found = FAMILIES[family](q).kl(FAMILIES[family](p))
    assert found is not None
    wanted = reference.kl_divergence(torchs(family, q), torchs(family, p))
    torch.testing.assert_close(found.squeeze(1) if family == "categorical" else found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), (q, p)), torch.autograd.grad(wanted.sum(), (q, p)))


def test_a_logistic_has_no_closed_divergence() -> None:
    assert made("logistic", 0).kl(made("logistic", 1)) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_have_the_distribution_that_they_claim(family: str) -> None:
    params = raw(family, 2, 1)
    z = FAMILIES[family](params).sample(noise(family, 4000))
    expected = torchs(family, params)
    if family == "logistic":
        mean, scale = params.chunk(2, 1)[0], params.chunk(2, 1)[1].exp()
        deviation = scale * torch.pi / 3**0.5
    else:
        mean, deviation = expected.mean, expected.variance.sqrt()
    mean, deviation = (m.movedim(-1, 1) if family == "categorical" else m for m in (mean, deviation))
    torch.testing.assert_close(z.mean(0, keepdim=True), mean, rtol=0, atol=4 * float(deviation.max()) / 4000**0.5)
    torch.testing.assert_close(z.std(0, keepdim=True), deviation, rtol=0.08, atol=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_noise_gives_an_infinite_draw_or_density(family: str) -> None:
    if family != "normal":
        ends = torch.tensor([2.0**-25, 1 - 2.0**-24]).repeat(N * Z * 2).view(N, Z, 2, 2)
        distribution = FAMILIES[family](raw(family, 0).float())
        z = distribution.sample(ends)
        assert z.isfinite().all() and distribution.log_prob(z).isfinite().all()


@pytest.mark.parametrize("family", DISCRETE)
def test_a_draw_of_temperature_0_is_the_most_probable_value(family: str) -> None:
    distribution = made(family, 0)
    assert torch.equal(distribution.sample(noise(family, N), 0.0), distribution.mode)


@pytest.mark.parametrize("family", DISCRETE)
def test_discrete_draws_are_exact_and_pass_the_gradient_of_the_relaxed_draw(family: str) -> None:
    logits, u = raw(family, 0).requires_grad_(), noise(family, N)
    z = FAMILIES[family](logits).sample(u)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    relaxed = (logits + u.logit()).sigmoid() if family == "bernoulli" else (logits - (-u.log()).log()).softmax(1)
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(9), dtype=z.dtype)
    found = torch.autograd.grad((z * weights).sum(), logits)
    torch.testing.assert_close(found, torch.autograd.grad((relaxed * weights).sum(), logits))


@pytest.mark.parametrize("family", ["laplace", "logistic"])
def test_relative_adds_means_and_multiplies_scales(family: str) -> None:
    a, t = made(family, 0), made(family, 1)
    joined = relative(a, t)
    assert type(joined) is FAMILIES[family]
    torch.testing.assert_close(joined.mean, a.mean + t.mean)
    torch.testing.assert_close(joined.scale, a.scale * t.scale)


def group(family: str) -> LatentGroup:
    return LatentGroup("z", "z", family, (Z, 2, 2), Z if family == "categorical" else None)


def draw(family: str, seeds: range, **options: object) -> Traversal:
    """One group from its posterior (or as `options` say) for the samples numbered `seeds`."""
    latents = Traversal([group(family)], len(seeds), SampleNoise(7, seeds), **options)
    latents[0].draw(repeated(family, 1, seeds), repeated(family, 0, seeds))
    return latents


def repeated(family: str, seed: int, seeds: range) -> Any:
    """The same distribution for each sample."""
    return FAMILIES[family](raw(family, seed, 1).expand(len(seeds), -1, -1, -1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sampled_rate_is_the_divergence_on_average(family: str) -> None:
    sampled = draw(family, range(6000), kl="sample")
    closed = draw(family, range(6000))
    difference = sampled.rates[0].mean() - closed.rates[0].mean()
    assert abs(float(difference)) < 5 * float(sampled.rates[0].std()) / 6000**0.5
    torch.testing.assert_close(sampled.log_weight, -sampled.rates[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_meets_the_same_noise_in_every_batch(family: str) -> None:
    together, alone = draw(family, range(4)), draw(family, range(2, 3))
    torch.testing.assert_close(together.z[0][2:3], alone.z[0])
    assert not torch.equal(together.z[0][0], together.z[0][1])


def test_classes_are_given_by_number_and_found_again() -> None:
    codes = torch.tensor([[[[0, 3], [1, 2]]]])
    latents = draw("categorical", range(1), sources=Given(codes))
    assert torch.equal(latents.outcomes[0].codes, codes)
    assert torch.equal(latents.z[0].argmax(1, keepdim=True), codes)
    with pytest.raises(ValueError, match="codes run from 0 to 4; there are 4 classes"):
        draw("categorical", range(1), sources=Given(torch.tensor([[[[0, 3], [1, 4]]]])))


def test_the_mean_of_a_discrete_group_is_its_most_probable_value() -> None:
    latents = draw("bernoulli", range(2), sources=Source.POSTERIOR_MEAN)
    assert torch.equal(latents.z[0], repeated("bernoulli", 0, range(2)).mode)


def test_prior_and_posterior_are_of_one_family() -> None:
    latents = Traversal([group("laplace")], N, SampleNoise(0, range(N)))
    with pytest.raises(ValueError, match="the prior of group `z` is a Laplace, its posterior a Normal"):
        latents[0].draw(made("laplace", 0), made("normal", 1))
