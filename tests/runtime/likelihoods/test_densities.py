"""Continuous densities of pixel values."""

import math

import pytest
import torch

from hvdsl.runtime.distributions import softplus
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.likelihoods import LaplaceDensity, NormalDensity

DENSITIES = [(NormalDensity, torch.distributions.Normal), (LaplaceDensity, torch.distributions.Laplace)]


def params(n=3):
    return torch.randn(n, 4, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("density", "reference"), DENSITIES)
@pytest.mark.parametrize("scale", [None, softplus(0.7)])
def test_log_density_is_the_distributions_own(density, reference, scale):
    given, target = params(), torch.rand(3, 2, 5, 6) * 2 - 1
    location, raw = given.double().chunk(2, 1)
    wanted = reference(location, raw.exp() if scale is None else scale(raw)[0]).log_prob(target.double())
    found = density(scale=scale).log_prob(given, target)
    assert found.dtype == torch.float32 and found.shape == (3,)
    torch.testing.assert_close(found.double(), wanted.flatten(1).sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("density", "spread"), [(NormalDensity, 1.0), (LaplaceDensity, math.sqrt(2))])
def test_samples_have_their_location_and_spread(density, spread):
    given = torch.cat([torch.full((1, 1, 100, 100), 0.1), torch.full((1, 1, 100, 100), math.log(0.02))], 1)
    drawn = density().sample(given, SampleNoise(0, range(1)))
    assert drawn.mean().item() == pytest.approx(0.1, abs=1e-3)
    assert drawn.std().item() == pytest.approx(0.02 * spread, rel=0.03)
    cold = density().sample(given, SampleNoise(0, range(1)), temperature=0.5)
    torch.testing.assert_close(cold - 0.1, (drawn - 0.1) / 2)
    assert density().sample(given + 9, SampleNoise(0, range(1))).abs().max() <= 1
    assert density().mean(given).unique().item() == pytest.approx(0.1)
