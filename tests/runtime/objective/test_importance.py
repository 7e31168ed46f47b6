"""The importance-weighted bound."""

import gc
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.inference.scores import ImportanceBound
from hvdsl.runtime.latents import LatentGroup, Traversal
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.layers.norms import statistics_held
from hvdsl.runtime.objective.elbo import ModelBatch, measure
from hvdsl.runtime.objective.objective import Objective
from tests.runtime.training.tiny_hierarchy import TinyHierarchy

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


def test_order_of_samples_does_not_matter():
    weights = torch.tensor([[-9000.0, -10.0, -5000.0, -11.0]])
    torch.testing.assert_close(collect(weights).bound, collect(weights.flip(1)).bound)


def test_one_sample_is_the_elbo():
    bound = collect(torch.tensor([[-12.5], [-3.0]]))
    assert bound.bound.tolist() == [-12.5, -3.0]


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
    batches = [ModelBatch(x, x, SampleNoise(0, [0, 1], step)) for step in range(2000)]
    bound = importance_bound(Conjugate(), batches)
    truth = torch.distributions.Normal(0, 2**0.5).log_prob(x).flatten().double()
    assert bound.samples == 2000
    assert bound.bound.tolist() == pytest.approx(truth.tolist(), abs=0.05)
    of_one_sample = torch.stack([importance_bound(Conjugate(), [batch]).bound for batch in batches[:200]])
    assert (of_one_sample.mean(0) < truth - 0.1).all()


def log_weights_and_gradient(settings, count=5):
    """The loss of the tiny hierarchy under `settings`, and the gradient of every parameter, by all passes of a step."""
    model = TinyHierarchy(dropout=0.0).double()
    initialize(model, 0)
    objective = Objective(ObjectiveSettings(unit="nats_per_dim", **settings), lambda duration: duration.n)
    x = torch.linspace(-1, 1, 4 * 64, dtype=torch.float64).reshape(4, 1, 8, 8)
    noises = [SampleNoise(k, range(4)) for k in range(count)]
    batch = ModelBatch(x, x, noises[0], more=noises[1:])
    total = 0.0
    for n, piece in enumerate(objective.passes(model, batch)):
        with statistics_held(model.modules() if n else ()):
            loss, _ = objective(model, piece, 0)
        (loss * piece.share).backward()
        total += float(loss.detach()) * piece.share
    return model, batch, total, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bound", ["iwae", "elbo"])
def test_samples_in_chunks_are_samples_at_once(bound):
    settings = {"bound": bound, "samples": 5}
    *_, one, first = log_weights_and_gradient(settings | {"chunk": 5})
    *_, other, second = log_weights_and_gradient(settings | {"chunk": 2})
    assert other == pytest.approx(one, rel=1e-12)
    assert_equal(first, second)


def test_the_loss_is_the_bound_and_its_gradient_that_of_the_bound():
    model, batch, loss, gradients = log_weights_and_gradient({"bound": "iwae", "samples": 5})
    model.zero_grad()
    log_weights = []
    for noise in (batch.noise, *batch.more):
        latents = Traversal.infer(model.LATENTS, 4, noise, densities=True)
        distortion = measure(model, ModelBatch(batch.x, batch.target, noise), latents).distortion
        log_weights.append(latents.log_weight - distortion)
    bound = torch.stack(log_weights).logsumexp(0) - math.log(5)
    negative = -bound.mean() / 64
    negative.backward()
    assert loss == pytest.approx(negative.item(), rel=1e-12)
    assert_equal(gradients, {name: p.grad for name, p in model.named_parameters() if p.grad is not None})


def test_weights_are_those_that_were_recorded():
    golden = load_file(GOLDEN)
    weights = golden["in.log_px"] - golden["in.log_q_minus_log_p"]
    recorded = Recorded(weights)
    objective = Objective(ObjectiveSettings(unit="nats_per_image", bound="iwae", samples=16, chunk=3), lambda d: 1)
    noises = [SampleNoise(k, range(2)) for k in range(16)]
    x = torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    objective._log_weights = lambda model, piece: recorded.take(len(piece.x) // 2)
    pieces = list(objective.passes(nn.Module(), ModelBatch(x, x, noises[0], more=noises[1:])))
    found = torch.cat([piece.importance.weights.view(-1, 2) for piece in pieces]).t()
    torch.testing.assert_close(found, golden["out.normalised_weights"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pieces[0].importance.bound, golden["out.iwae"], rtol=1e-12, atol=0)
    torch.testing.assert_close(pieces[0].importance.effective, golden["out.effective_sample_size"], rtol=1e-9, atol=0)
    assert sum(piece.share for piece in pieces) == pytest.approx(1)


class Recorded:
    """Hands out recorded log-weights `(N, K)`, so many samples at a time."""

    def __init__(self, weights):
        self._rest = weights.t()

    def take(self, count):
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken.flatten()
