"""The objective: bound, units, ramps, free bits, balancing, refusals."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvdsl.compiler.setting_words import Anneal, AtLeast, ByRate, BySize, Cyclic, Duration, LogisticRamp, Ramp
from hvdsl.compiler.settings import ObjectiveSettings as Settings
from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import FreeBits, LatentGroup
from hvdsl.runtime.likelihoods import Bernoulli
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Beta, Objective, balance_by_rate, balance_by_size, free_bits

GOLDEN = Path(__file__).parents[2] / "golden"


def steps(duration):
    return round(duration.n * (1 if duration.unit == "steps" else 1000))


class TwoGroups(nn.Module):
    """q = N(x, 1) against p = N(0, 1) in the first group, N(2x, 1) in the second; four bits from their sum."""

    LATENTS = (LatentGroup("a", "decoder.a", "normal", (1, 2, 2)), LatentGroup("b", "decoder.b", "normal", (1, 2, 2)))

    def __init__(self):
        super().__init__()
        self.likelihood = Bernoulli()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, latents):
        prior = Normal.standard((latents.batch, 1, 2, 2))
        a = latents[0].draw(prior, Normal.of(self.gain * x, log_scale=torch.zeros_like(x)))
        b = latents[1].draw(prior, Normal.of(2 * self.gain * x, log_scale=torch.zeros_like(x)))
        return a + b


def batch(step=0):
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]).reshape(2, 1, 2, 2)
    return ModelBatch(x, x, SampleNoise(0, [0, 1], step))


RATES = (1.25, 5.0)  # mean over the two images of Σ mean² / 2


def run(step=0, training=True, **settings):
    objective = Objective(Settings(**{"unit": "nats_per_image"} | settings), steps)
    model = TwoGroups().train(training)
    return objective(model, batch(), step)


def test_terms_and_their_units():
    loss, terms = run()
    rate = terms["rate_per_group_nats_per_image"]
    torch.testing.assert_close(rate, torch.tensor(RATES))
    assert loss.item() == pytest.approx(terms["negative_elbo_nats_per_image"].item(), rel=1e-6)
    assert terms["negative_elbo_nats_per_dim"].item() == pytest.approx(loss.item() / 4, rel=1e-6)
    assert terms["bits_per_dim"].item() == pytest.approx(loss.item() / 4 / math.log(2), rel=1e-6)
    assert terms["rate_nats_per_dim"].item() == pytest.approx(6.25 / 4)
    assert terms["distortion_nats_per_dim"] + terms["rate_nats_per_dim"] == pytest.approx(
        terms["negative_elbo_nats_per_dim"].item(), rel=1e-6
    )


def test_unit_scales_the_loss():
    assert run(unit="nats_per_dim")[0].item() == pytest.approx(run()[0].item() / 4, rel=1e-6)


def test_beta_weighs_the_rate_but_not_the_reported_bound():
    full, terms = run()
    half, half_terms = run(beta=0.5)
    assert (full - half).item() == pytest.approx(6.25 / 2, rel=1e-5)
    assert half_terms["negative_elbo_nats_per_image"] == terms["negative_elbo_nats_per_image"]
    assert half_terms["weighted_rate_nats_per_dim"].item() == pytest.approx(6.25 / 8)


def test_ramp_is_linear_from_its_start_and_never_below_its_floor():
    ramp = Ramp(**{"from": 0.0}, start=Duration(n=10), length=Duration(n=100), floor=1e-4)
    beta = Beta(ramp, steps)
    assert [beta(i) for i in (0, 10, 60, 110, 500)] == [1e-4, 1e-4, 0.5, 1.0, 1.0]
    raised = Beta(Ramp(**{"from": 0.2}, length=Duration(unit="fraction", n=0.1)), steps)
    assert [raised(0), raised(50), raised(100)] == pytest.approx([0.2, 0.6, 1.0])


def test_linear_and_cosine_go_from_one_weight_to_another():
    moves = {"from": 1.0, "to": 3.0, "start": Duration(n=10), "length": Duration(n=100)}
    linear, cosine = (Beta(Anneal(kind=kind, **moves), steps) for kind in ("linear", "cosine"))
    assert [linear(i) for i in (0, 10, 35, 110, 500)] == [1.0, 1.0, 1.5, 3.0, 3.0]
    expected = [1.0, 1.0, 1 + 2 * (1 - math.cos(math.pi / 4)) / 2, 3.0, 3.0]
    assert [cosine(i) for i in (0, 10, 35, 110, 500)] == pytest.approx(expected)


def test_cycles_rise_and_rest_and_end():
    beta = Beta(Cyclic(length=Duration(n=10), rising=0.5, cycles=2), steps)
    rise = [beta(i) for i in (0, 1, 5, 9, 10, 12, 19, 20, 21, 99)]
    assert rise == pytest.approx([0, 0.2, 1, 1, 0, 0.4, 1, 1, 1, 1])
    endless = Beta(Cyclic(length=Duration(n=10)), steps)
    assert (endless(90), endless(99)) == (0, 1)


def test_logistic_is_a_sigmoid_in_time():
    beta = Beta(LogisticRamp(middle=Duration(n=50), width=Duration(n=20)), steps)
    assert [beta(i) for i in (40, 50, 60)] == pytest.approx([1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-1))])
    assert beta(1000) == 1.0


class Weighed(TwoGroups):
    """The first group counts a quarter and has free bits of its own; the second has none."""

    LATENTS = (
        replace(TwoGroups.LATENTS[0], weight=0.25, free=FreeBits(2.0)),
        replace(TwoGroups.LATENTS[1], free=FreeBits(None)),
    )


def test_groups_have_weights_and_free_bits_of_their_own_and_true_rates_are_reported():
    free = AtLeast(nats=100.0)
    objective = Objective(Settings(unit="nats_per_image", free=free), steps)
    loss, terms = objective(Weighed(), batch(), 0)
    distortion = terms[names.DISTORTION_NATS_PER_DIM] * 4
    assert (loss - distortion).item() == pytest.approx(0.25 * 2.0 + RATES[1])
    assert terms[names.RATE_PER_GROUP_NATS_PER_IMAGE].tolist() == pytest.approx(RATES)
    assert terms[names.RATE_PER_GROUP_WEIGHT].tolist() == [0.25, 1.0]


def test_free_bits_of_one_group_may_be_finer_than_those_of_all():
    class Finer(TwoGroups):
        LATENTS = (replace(TwoGroups.LATENTS[0], free=FreeBits(0.5, "element", "per_sample")), TwoGroups.LATENTS[1])

    loss, terms = Objective(Settings(unit="nats_per_image", free=AtLeast(nats=7.0)), steps)(Finer(), batch(), 0)
    rate = loss - terms[names.DISTORTION_NATS_PER_DIM] * 4
    # Elements have a rate of 0.5 or 0, and count 0.5 each; the other group's 5 nats are under its floor of 7.
    assert rate.item() == pytest.approx(4 * 0.5 + 7.0)


def test_sampled_rate_is_an_unbiased_estimate():
    model = TwoGroups()
    objective = Objective(Settings(unit="nats_per_image", kl="sample"), steps)
    rates = [objective(model, batch(step), step)[1]["rate_per_group_nats_per_image"] for step in range(400)]
    assert (torch.stack(rates).mean(0) - torch.tensor(RATES)).abs().max() < 0.4


def test_free_bits_by_layer_channel_and_element():
    g = load_file(GOLDEN / "family" / "free_bits.safetensors")
    kl, per_layer = g["in.kl_bchw"], g["in.kl_per_layer"]

    def floored(rate, nats, per, take_max):
        rate = rate.clone().requires_grad_()
        value = free_bits(rate, AtLeast(nats=nats, per=per, take_max=take_max), lambda mean: mean)
        return value.detach(), torch.autograd.grad(value, rate)[0]

    by_channel = kl.flatten(2).sum(2)
    value, gradient = floored(by_channel, 0.25, "channel", "after_batch_mean")
    torch.testing.assert_close(value, g["out.iaf_channel_batchmean"].squeeze(), rtol=1e-9, atol=1e-9)
    recorded = g["grad.d_iaf_d_kl"][:, :, 0, 0]
    torch.testing.assert_close(gradient, recorded, rtol=1e-9, atol=1e-9)

    value, gradient = floored(by_channel, 0.25, "channel", "per_sample")
    torch.testing.assert_close(value, g["out.channel_per_sample"].mean(), rtol=1e-9, atol=1e-9)
    recorded = g["grad.d_channel_per_sample_mean_d_kl"][:, :, 0, 0]
    torch.testing.assert_close(gradient, recorded, rtol=1e-9, atol=1e-9)

    for group in range(per_layer.shape[1]):
        for take_max, name in (("per_sample", "layer_per_sample_mean"), ("after_batch_mean", "layer_batchmean")):
            value, gradient = floored(per_layer[:, group], 1.0, "latent", take_max)
            torch.testing.assert_close(value, g[f"out.{name}"][group], rtol=1e-9, atol=1e-9)
            recorded = g[f"grad.d_{name.removesuffix('_mean')}_d_kl"][:, group]
            torch.testing.assert_close(gradient, recorded, rtol=1e-9, atol=1e-9)

    value, _ = floored(kl, 2.0 / kl[0].numel(), "element", "per_sample")
    recorded = g["out.biva_spread_over_dims"].flatten(1).sum(1).mean()
    torch.testing.assert_close(value, recorded, rtol=1e-9, atol=1e-9)


def test_free_bits_after_the_mean_see_the_batch_of_all_processes():
    mine, others = torch.tensor([0.2, 0.4], requires_grad=True), 2.0
    free = AtLeast(nats=1.0)
    value = free_bits(mine, free, lambda mean: (mean + others) / 2)
    value.backward()
    assert mine.grad.tolist() == [0.5, 0.5]  # the whole batch is above the floor, so this part of it has a gradient
    assert free_bits(mine, free, lambda mean: mean).item() == 1.0


def test_free_bits_enter_the_loss_and_can_be_for_training_only():
    plain = run()[0]
    floored = run(free=AtLeast(nats=3.0))[0]
    assert (floored - plain).item() == pytest.approx(3.0 - RATES[0], rel=1e-5)
    training_only = AtLeast(nats=3.0, when="training")
    assert run(free=training_only)[0] == floored
    assert run(free=training_only, training=False)[0] == run(training=False)[0]


def nvae_groups(finest_first):
    """Groups in order of generation, the map doubling from scale to scale."""
    coarsest_first = finest_first[::-1]
    return [
        LatentGroup("z", f"s{s}", "normal", (2, 4 << s, 4 << s)) for s, n in enumerate(coarsest_first) for _ in range(n)
    ]


@pytest.mark.parametrize("beta", ["0.0001", "0.5", "0.999"])
def test_balance_by_size(beta):
    g = load_file(GOLDEN / "nvae_cells" / "kl_balancer.safetensors")
    torch.testing.assert_close(g["kl"].abs().mean(0), g["kl_mean"])
    weights = balance_by_size(g["kl"].abs().mean(0), nvae_groups([4, 2, 1]), BySize(weight="square"))
    torch.testing.assert_close(weights, g[f"coeffs.{beta}"], rtol=1e-5, atol=1e-6)
    balanced = float(beta) * (weights * g["kl"]).sum(1)
    torch.testing.assert_close(balanced, g[f"balanced.{beta}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", json.loads((GOLDEN / "nvae_cells" / "tables.json").read_text())["kl_balancer_coeff"])
def test_the_divisors_of_balancing_are_the_recorded_ones(row):
    """Groups of equal rates are weighted as 1 / α; α is recorded with 1 as its least."""
    groups = nvae_groups(row["groups"])
    weights = balance_by_size(torch.full((len(groups),), 2.0), groups, BySize(weight=row["fun"]))
    torch.testing.assert_close(weights.max() / weights, torch.tensor(row["result"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", ["square", "linear", "sqrt", "equal"])
def test_balance_by_size_gives_finer_maps_less_weight_by_its_rule(weight):
    rates = torch.full((7,), 2.0)
    weights = balance_by_size(rates, nvae_groups([4, 2, 1]), BySize(weight=weight))
    inverse = weights[0] / weights
    expected = {
        "square": [1, 2, 2, 4, 4, 4, 4],
        "linear": [1, 2, 2, 4, 4, 4, 4],
        "sqrt": [1, 2**0.5, 2**0.5, 2, 2, 2, 2],
        "equal": [1] * 7,
    }[weight]
    torch.testing.assert_close(inverse, torch.tensor(expected, dtype=torch.float32))
    assert weights.mean().item() == pytest.approx(1)


def test_balance_by_rate_weighs_by_the_rate_per_element():
    groups = [LatentGroup("a", "a", "normal", (2, 1, 1)), LatentGroup("b", "b", "normal", (2, 2, 2))]
    weights = balance_by_rate(torch.tensor([4.0, 8.0]), groups)
    torch.testing.assert_close(weights, torch.tensor([4 / 3, 2 / 3]))
    assert balance_by_rate(torch.zeros(2), groups).isfinite().all()


def test_balancing_is_for_training_while_beta_is_below_one():
    balance = BySize()
    assert "rate_per_group_weight" in run(balance=balance, beta=0.5)[1]
    assert "rate_per_group_weight" not in run(balance=balance, beta=1.0)[1]
    assert "rate_per_group_weight" not in run(balance=balance, beta=0.5, training=False)[1]
    until = ByRate(until=Duration(n=10))
    assert "rate_per_group_weight" in run(balance=until, step=9)[1]
    assert "rate_per_group_weight" not in run(balance=until, step=10)[1]
