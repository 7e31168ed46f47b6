"""The importance-weighted bound."""

import gc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.inference.evaluate import ImportanceBound
from hvdsl.runtime.latents import LatentGroup, Traversal
from hvdsl.runtime.objective.elbo import ModelBatch, measure

GOLDEN = Path(__file__).parents[2] / "golden" / "family" / "iwae_bound.safetensors"


def collect(log_weights):
    bound = ImportanceBound()
    for column in log_weights.unbind(1):
        bound.add(column)
    return bound


def test_streaming_gives_the_recorded_bound():
    g = load_file(GOLDEN)
    bound = collect(g["out.log_weights"])
    torch.testing.assert_close(bound.bound, g["out.iwae"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bound.elbo, g["out.elbo"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bound.effective_sample_size, g["out.effective_sample_size"], rtol=1e-9, atol=1e-9)


def test_order_of_samples_does_not_matter():
    weights = torch.tensor([[-9000.0, -10.0, -5000.0, -11.0]])
    torch.testing.assert_close(collect(weights).bound, collect(weights.flip(1)).bound)


def test_one_sample_is_the_elbo():
    bound = collect(torch.tensor([[-12.5], [-3.0]]))
    assert bound.bound.tolist() == bound.elbo.tolist() == [-12.5, -3.0]
    assert bound.effective_sample_size.tolist() == [1, 1]


@torch.no_grad()
def importance_bound(model, batches):
    """Weighs one posterior sample of the same images for each of `batches`, which differ in their noise."""
    bound = ImportanceBound()
    for batch in batches:
        latents = Traversal.infer(model.LATENTS, len(batch.x), batch.noise, densities=True)
        distortion = measure(model, batch, latents).distortion
        bound.add(latents.log_weight - distortion)
    return bound


class Conjugate(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z, 1), so that log p(x) = log N(x; 0, 2); the posterior is the prior, and so loose."""

    LATENTS = (LatentGroup("z", "decoder.z", "normal", (1, 1, 1)),)

    density = True

    def __init__(self):
        super().__init__()
        self.likelihood = self

    def forward(self, x, latents):
        standard = Normal.standard((latents.batch, 1, 1, 1))
        return latents[0].draw(standard, standard)

    def log_prob(self, params, target):
        return Normal.of(params, log_scale=torch.zeros_like(params)).log_prob(target).flatten(1).sum(1)

    def dims(self, shape):
        return 1


def test_memory_does_not_grow_with_the_samples():
    alive = {}

    def batches():
        for step in range(50):
            if step in (5, 49):
                alive[step] = sum(item.numel() for item in gc.get_objects() if type(item) is torch.Tensor)
            yield ModelBatch(x, x, SampleNoise(0, [0, 1], step))

    x = torch.zeros(2, 1, 1, 1)
    importance_bound(Conjugate(), batches())
    assert alive[49] == alive[5]


def test_bound_approaches_the_likelihood():
    x = torch.tensor([0.5, -1.0]).reshape(2, 1, 1, 1)
    batches = (ModelBatch(x, x, SampleNoise(0, [0, 1], step)) for step in range(2000))
    bound = importance_bound(Conjugate(), batches)
    truth = torch.distributions.Normal(0, 2**0.5).log_prob(x).flatten().double()
    assert bound.samples == 2000
    assert bound.bound.tolist() == pytest.approx(truth.tolist(), abs=0.05)
    assert (bound.elbo < truth - 0.1).all()
