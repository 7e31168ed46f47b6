"""The traversal: sources, temperatures, noise, what is kept, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.ground.noise import RecordedNoise, SampleNoise
from hvdsl.runtime.inference.edit import Abduction, Prediction
from hvdsl.runtime.latents import Given, LatentGroup, Source, Traversal

GROUPS = (
    LatentGroup("z", "decoder.r1.layer.0.z", "normal", (2, 1, 1)),
    LatentGroup("z", "decoder.r4.layer.0.z", "normal", (3, 4, 4)),
    LatentGroup("z", "decoder.r4.layer.1.z", "normal", (3, 4, 4)),
)


def normal(shape, mean, scale):
    return Normal.of(torch.full(shape, mean), scale=torch.full(shape, scale))


def walk(latents):
    """Priors N(1, 2²) and posteriors N(3, 0.5²) all the way down."""
    for i, group in enumerate(latents.groups):
        shape = (latents.batch, *group.shape)
        posterior = normal(shape, 3.0, 0.5) if latents[i].inferred else None
        latents[i].draw(normal(shape, 1.0, 2.0), posterior)
    return latents


def noise(n, seed=0):
    return SampleNoise(seed, range(n))


def eps(n, seed=0):
    return [noise(n, seed).normal(f"latent.{i}", g.shape) for i, g in enumerate(GROUPS)]


def test_training_draws_posterior_samples_and_keeps_the_closed_form_rate():
    latents = walk(Traversal.infer(GROUPS, 2, noise(2)))
    for z, e in zip(latents.z, eps(2), strict=True):
        torch.testing.assert_close(z, 3 + 0.5 * e)
    per_element = np.log(2 / 0.5) + (0.5**2 + 2**2) / (2 * 2**2) - 0.5
    expected = torch.tensor([[2.0], [48.0], [48.0]]).expand(3, 2) * per_element
    torch.testing.assert_close(latents.rates, expected.float())


def test_sampled_rate_is_the_log_ratio_of_what_was_drawn():
    latents = walk(Traversal.infer(GROUPS, 2, noise(2), kl="sample"))
    for outcome in latents.outcomes:
        q = torch.distributions.Normal(3, 0.5).log_prob(outcome.z).flatten(1).sum(1)
        p = torch.distributions.Normal(1, 2).log_prob(outcome.z).flatten(1).sum(1)
        torch.testing.assert_close(outcome.log_q, q)
        torch.testing.assert_close(outcome.log_p, p)
        torch.testing.assert_close(outcome.rate, q - p, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(latents.log_weight, -latents.rates.sum(0))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Source.POSTERIOR, lambda e: 3 + 0.5 * e),
        (Source.POSTERIOR_MEAN, lambda e: 3 + 0 * e),
        (Source.PRIOR, lambda e: 1 + 0.7 * 2 * e),
        (Source.PRIOR_MEAN, lambda e: 1 + 0 * e),
    ],
)
def test_sources(source, expected):
    latents = walk(Traversal(GROUPS, 2, noise(2), source, temperature=0.7))
    for z, e in zip(latents.z, eps(2), strict=True):
        torch.testing.assert_close(z, expected(e))


def test_a_source_for_each_group():
    given = torch.randn(2, 3, 4, 4)
    sources = [Source.POSTERIOR_MEAN, Given(given), Source.PRIOR]
    latents = walk(Traversal(GROUPS, 2, noise(2), sources))
    assert latents.z[0].eq(3).all()
    assert latents.z[1].equal(given)
    torch.testing.assert_close(latents.z[2], 1 + 2 * eps(2)[2])
    assert [latents[i].inferred for i in range(3)] == [True, False, False]


def test_what_comes_from_the_prior_carries_no_information():
    latents = walk(Traversal.reconstruct(GROUPS, 2, noise(2), keep=1, rest="sample"))
    assert latents.rates[0].gt(0).all()
    assert latents.rates[1:].eq(0).all()


def test_reconstruction_keeps_the_top_groups():
    latents = walk(Traversal.reconstruct(GROUPS, 2, keep=2))
    assert [z.unique().tolist() for z in latents.z] == [[3.0], [3.0], [1.0]]
    assert not Traversal.reconstruct(GROUPS, 2, keep=0).inferred


def test_a_temperature_for_each_group_also_beside_given_latents():
    first = torch.zeros(2, 2, 1, 1)
    latents = walk(Traversal.generate(GROUPS, 2, noise(2), (1.0, 0.5, 0.0), given=[first]))
    assert latents.z[0].equal(first)
    torch.testing.assert_close(latents.z[1], 1 + 0.5 * 2 * eps(2)[1])
    assert latents.z[2].eq(1).all()
    assert not latents.inferred


@pytest.mark.parametrize("temperature", [np.float32(0.5), np.float64(0.5), 0.5, [0.5] * 3, (0.5,) * 3, np.full(3, 0.5)])
def test_temperatures_of_any_kind_of_number(temperature):
    latents = walk(Traversal.generate(GROUPS, 2, noise(2), temperature))
    torch.testing.assert_close(latents.z[1], 1 + eps(2)[1])


def test_drawing_does_not_depend_on_batch_size_or_on_other_groups():
    together = walk(Traversal.generate(GROUPS, 5, SampleNoise(7, range(5)))).z
    alone = walk(Traversal.generate(GROUPS, 1, SampleNoise(7, [3]))).z
    for a, b in zip(together, alone, strict=True):
        assert a[3:4].equal(b)
    partial = walk(Traversal.generate(GROUPS, 1, SampleNoise(7, [3]), given=alone[:1])).z
    assert partial[2].equal(alone[2])


def test_steps_images_groups_and_seeds_have_noise_of_their_own():
    draws = [
        SampleNoise(seed, [index], step).normal(f"latent.{group}", (4,))
        for seed in (0, 1)
        for step in (0, 1)
        for index in (0, 1)
        for group in (0, 1)
    ]
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 16


def test_noise_is_standard_normal():
    draws = SampleNoise(0, range(2000)).normal("latent.0", (10,))
    assert abs(draws.mean().item()) < 0.03
    assert abs(draws.std().item() - 1) < 0.03
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.1


def test_recorded_noise_is_replayed():
    recorded = [torch.randn(2, *g.shape) for g in GROUPS]
    latents = walk(Traversal.infer(GROUPS, 2, RecordedNoise(2, recorded)))
    for z, e in zip(latents.z, recorded, strict=True):
        torch.testing.assert_close(z, 3 + 0.5 * e)


def test_slices_are_views_with_numbers_of_their_own():
    latents = Traversal.infer(GROUPS, 2, noise(2))
    view = latents[1:3]
    assert len(view) == 2
    shape = (2, 3, 4, 4)
    z = view[1].draw(normal(shape, 1.0, 2.0), normal(shape, 3.0, 0.5))
    view[0:1][0].draw(normal(shape, 1.0, 2.0), normal(shape, 3.0, 0.5))
    assert view.z[1] is z
    with pytest.raises(RuntimeError, match=r"`decoder.r1.layer.0.z` was not drawn"):
        _ = latents.z
    with pytest.raises(IndexError):
        view[2]


@pytest.mark.parametrize(("detail", "shape"), [("latent", (2,)), ("channel", (2, 3)), ("element", (2, 3, 4, 4))])
def test_detail_of_the_rates(detail, shape):
    outcome = walk(Traversal.infer(GROUPS, 2, noise(2), detail=detail)).outcomes[1]
    assert outcome.rate_detail.shape == shape
    torch.testing.assert_close(outcome.rate_detail.reshape(2, -1).sum(1), outcome.rate)


class Ladder(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(3, 12, 3, padding=1) for _ in range(3))
        self.merge = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def layer(self, i, x, latents):
        prior, posterior = self.heads[i](torch.tanh(x)).chunk(2, 1)
        return x + self.merge[i](latents[0].draw(Normal(prior), Normal(posterior)))

    def forward(self, x, latents, recompute):
        for i in range(3):
            view = latents[i : i + 1]
            x = checkpoint(self.layer, i, x, view, use_reentrant=False) if recompute else self.layer(i, x, view)
        return x


@pytest.mark.parametrize("kl", ["closed", "sample"])
def test_recomputation_changes_no_gradient_and_no_record(kl):
    groups = [LatentGroup("z", f"l{i}", "normal", (3, 8, 8)) for i in range(3)]
    torch.manual_seed(0)
    model, x = Ladder(), torch.randn(2, 3, 8, 8)
    gradients, rates = [], []
    for recompute in (False, True):
        model.zero_grad()
        latents = Traversal.infer(groups, 2, noise(2), kl=kl)
        out = model(x, latents, recompute)
        rates.append(latents.rates.detach())
        (out.square().mean() + latents.rates.sum(0).mean()).backward()
        assert latents.rates.detach().equal(rates[-1])
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert rates[0].equal(rates[1])
    assert all(a.equal(b) for a, b in zip(*gradients, strict=True))


def refused(message, **options):
    with pytest.raises(ValueError, match=message):
        walk(Traversal(GROUPS, 2, **options))


def test_mistakes_are_named():
    refused("2 temperatures are given; the model has 3 latent groups", noise=noise(2), temperature=[1, 1])
    refused("a temperature is a number of at least 0, not -1", noise=noise(2), temperature=-1)
    refused("a temperature is a number of at least 0, not nan", noise=noise(2), temperature=float("nan"))
    refused("1 sources are given; the model has 3", sources=[Source.PRIOR_MEAN])
    refused("the noise is for 3 images, the batch has 2", noise=noise(3))
    refused("is sampled, but the traversal was given no noise", sources=Source.PRIOR)
    wrong_batch = Given(torch.zeros(5, 2, 1, 1))
    refused(
        r"value given for group `decoder.r1.layer.0.z` is \(5, 2, 1, 1\); expected \(2, 2, 1, 1\)",
        sources=[wrong_batch, Source.PRIOR_MEAN, Source.PRIOR_MEAN],
    )
    recorded = [torch.zeros(2, 2, 1, 1), torch.zeros(2, 3, 2, 2), None]
    refused(r"`latent.1` is \(2, 3, 2, 2\); \(2, 3, 4, 4\) is needed", noise=RecordedNoise(2, recorded))
    refused("no noise was recorded for `latent.0`", noise=RecordedNoise(2))
    with pytest.raises(ValueError, match="4 latents are given; the model has 3 groups"):
        Traversal.generate(GROUPS, 2, noise(2), given=[torch.zeros(2, 2, 1, 1)] * 4)
    with pytest.raises(ValueError, match="cannot keep 4 groups; the model has 3"):
        Traversal.reconstruct(GROUPS, 2, keep=4)


def test_a_model_that_breaks_its_declaration_is_named():
    latents = Traversal.infer(GROUPS, 2, noise(2))
    with pytest.raises(ValueError, match=r"the prior of group `decoder.r1.layer.0.z` is \(2, 3, 1, 1\)"):
        latents[0].draw(normal((2, 3, 1, 1), 0.0, 1.0))
    with pytest.raises(ValueError, match="takes its posterior sample, but the model computed no posterior"):
        latents[0].draw(normal((2, 2, 1, 1), 0.0, 1.0))


def test_unknown_quantities_are_not_made_up():
    given = [torch.zeros(2, *g.shape) for g in GROUPS]
    latents = walk(Traversal.generate(GROUPS, 2, noise(2), given=given))
    with pytest.raises(RuntimeError, match="the rate of group"):
        _ = latents.rates
    with pytest.raises(RuntimeError, match="no densities were asked for"):
        _ = walk(Traversal.infer(GROUPS, 2, noise(2))).log_weight


def test_on_the_way_up_inference_sees_values_of_groups_that_are_not_inferred():
    shape = (2, *GROUPS[0].shape)
    posterior = normal(shape, 3.0, 0.5)
    given = torch.full(shape, 7.0)
    sources = [Given(given), Source.PRIOR, Source.POSTERIOR]
    latents = Traversal((GROUPS[0],) * 3, 2, noise(2), sources)
    assert torch.equal(latents[0].infer(posterior), given)
    assert torch.equal(latents[1].infer(posterior), posterior.mean)
    torch.testing.assert_close(latents[2].infer(posterior), latents[2].draw(normal(shape, 1.0, 2.0), posterior))


@pytest.mark.parametrize("kind", ["of any source", "of an image", "of what was kept"])
def test_a_view_of_some_groups_has_all_that_the_whole_has(kind: str) -> None:
    group, cpu = LatentGroup("z", "z", "normal", (2, 1, 1)), torch.device("cpu")
    walk = {
        "of any source": lambda: Traversal([group], 1),
        "of an image": lambda: Abduction([group], 1, cpu),
        "of what was kept": lambda: Prediction([group], 1, cpu, {}),
    }[kind]()
    view = walk[:1]
    assert type(view) is type(walk) and vars(view) == vars(walk)
