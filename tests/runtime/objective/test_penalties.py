"""Penalties of weights: recorded spectral norms, gains of batch norms, and both as terms of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvdsl.compiler.setting_words import BySize, Duration, Ramp, WithBeta
from hvdsl.compiler.settings import ObjectiveSettings as Settings
from hvdsl.errors import HvdslError
from hvdsl.runtime.layers import Causal, Conv2d, ConvTranspose2d, Dense, Own, WeightNorm, initialize
from hvdsl.runtime.objective import spectral
from hvdsl.runtime.objective.objective import Beta, weight_at
from hvdsl.runtime.objective.penalties import BatchNormPenalty, Penalties
from hvdsl.runtime.objective.spectral import Iteration, SpectralPenalty
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny

TABLES = json.loads((Path(__file__).parents[2] / "golden" / "nvae_cells" / "tables.json").read_text())
PENALISED = Settings(unit="nats_per_image", spectral=0.1, batch_norm_gamma=WithBeta(first=1.0, last=0.01), beta=0.5)


@pytest.mark.parametrize("row", TABLES["wdn_coeff"])
def test_annealed_weights_are_the_recorded_ones(row: Any) -> None:
    weight = WithBeta(first=row["init"], last=row["final"])
    assert weight_at(weight, row["kl_coeff"]) == pytest.approx(row["result"], rel=1e-12)


@pytest.mark.parametrize("row", TABLES["kl_coeff"])
def test_the_ramp_of_beta_is_the_recorded_one(row: Any) -> None:
    clock = Clock(per_epoch=1, total=row["total_iters"])
    ramp = Ramp(
        start=Duration(unit="fraction", n=row["const_portion"]),
        length=Duration(unit="fraction", n=row["anneal_portion"]),
        floor=row["const_coeff"],
    )
    assert Beta(ramp, clock.steps)(row["step"]) == pytest.approx(row["result"], rel=1e-12)


def test_batch_norm_penalty_is_the_sum_of_the_largest_gains() -> None:
    model = tiny(norm=True)
    gain = model.encoder.r8.batch_norm[0].weight
    with torch.no_grad():
        gain.copy_(torch.tensor([0.5, -3.0, 1, 2, 0, 0, 0, 0]))
    total = BatchNormPenalty(model)()
    total.backward()
    assert total == 3
    assert gain.grad.tolist() == [0, -1, 0, 0, 0, 0, 0, 0]


def test_a_use_with_a_gain_of_its_own_is_another_convolution() -> None:
    """Its weight is that gain times the direction that both share; a use with another bias has the same weight."""
    layer = Conv2d(3, 4, (3, 3), norm=WeightNorm())
    shared = nn.Sequential(layer)
    model = nn.ModuleDict({"first": shared, "gained": Own(shared, "gain"), "biased": Own(shared, "bias")}).double()
    initialize(model, 0)
    gain = model["gained"].get_parameter("0.gain")
    with torch.no_grad():
        gain.copy_(torch.tensor([[[[3.0]]], [[[1]]], [[[2]]], [[[1]]]]))
    penalty = SpectralPenalty(model)
    for _ in range(50):
        total = penalty()
    matrices = [layer.effective_weight().flatten(1)]
    matrices.append(layer.norm.weight(layer.weight, gain, 0).flatten(1))
    assert total.item() == pytest.approx(sum(torch.linalg.matrix_norm(m, 2).item() for m in matrices), rel=1e-9)
    total.backward()
    assert gain.grad is not None and bool((gain.grad != 0).any())
    early = {name: vector for name, vector in penalty.tensors().items() if "gained" not in name}
    assert penalty.expected(early).keys() == early.keys()  # checkpoints of version 0.1 go on
    penalty.load(early)


def test_terms_are_named_with_their_units_and_weighted() -> None:
    total, terms = Penalties(tiny(norm=True), PENALISED, Clock(1, 10).steps)(0)
    assert set(terms) == {
        "spectral_sum",
        "weighted_spectral_nats_per_image",
        "batch_norm_gamma_sum",
        "weighted_batch_norm_gamma_nats_per_image",
    }
    assert terms["batch_norm_gamma_sum"] == 1
    assert terms["weighted_batch_norm_gamma_nats_per_image"].item() == pytest.approx(0.1)  # half way, log-linearly
    assert total.item() == pytest.approx(0.1 * terms["spectral_sum"].item() + 0.1, rel=1e-6)


def test_a_penalty_of_layers_that_are_not_there_is_refused() -> None:
    with pytest.raises(HvdslError, match="every batch normalisation, and the model has none: remove"):
        Penalties(tiny(norm=False), PENALISED, Clock(1, 10).steps)


def train(folder: Any, steps: Any, **chosen: Any) -> Any:
    run = Run.open(folder) if folder.exists() else Run.create(folder, {})
    spec = settings(**{"steps": steps, "checkpoint_every": Duration(n=1)} | chosen)
    model = tiny(norm=True)
    trainer = Trainer(model, spec.model_copy(update={"objective": PENALISED}), Blobs(20), run=run)
    if run.checkpoints().latest() is not None:
        trainer.resume()
    trainer.fit()
    return model, run


def test_a_resumed_run_equals_one_that_went_straight_through(tmp_path: Any) -> None:
    train(tmp_path / "resumed", 2)
    resumed, run = train(tmp_path / "resumed", 5)
    straight, other = train(tmp_path / "straight", 5)
    for (name, a), b in zip(resumed.state_dict().items(), straight.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    a, b = (r.checkpoints().latest().load("penalties") for r in (run, other))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_terms_reach_the_log_and_accumulation_counts_a_penalty_once(tmp_path: Any) -> None:
    _, whole = train(tmp_path / "whole", 1, precision="fp32")
    _, parts = train(tmp_path / "parts", 1, accumulate=2)
    one, two = whole.metrics()[0], parts.metrics()[0]
    assert one["spectral_sum"] == two["spectral_sum"] > 0
    parts_of_loss = ("weighted_spectral_nats_per_image", "weighted_batch_norm_gamma_nats_per_image")
    batch = one["distortion_nats_per_dim"] * 64 + one["weighted_rate_nats_per_dim"] * 64
    assert one["objective"] == pytest.approx(batch + sum(one[name] for name in parts_of_loss), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_leaves_the_penalty_in_float32(tmp_path: Any, precision: Any) -> None:
    _, low = train(tmp_path / "low", 2, precision=precision)
    _, full = train(tmp_path / "full", 2)
    first, reference = low.metrics()[0], full.metrics()[0]
    assert first["spectral_sum"] == reference["spectral_sum"]
    assert first["objective"] == pytest.approx(reference["objective"], rel=0.02)
    assert all(math.isfinite(row["objective"]) for row in low.metrics())


def test_balancing_one_group_is_refused(tmp_path: Any) -> None:
    model: Any = tiny()
    model.LATENTS = model.LATENTS[:1]
    spec = settings().model_copy(
        update={"objective": Settings(unit="nats_per_image", beta=0.5, balance=BySize(weight="square"))}
    )
    with pytest.raises(HvdslError, match="the model has one: remove `balance`"):
        Trainer(model, spec, Blobs(20))


GOLDEN = load_file(Path(__file__).parents[2] / "golden" / "nvae_cells" / "spectral.safetensors")
SHAPES = {"6x36": [0, 1, 3], "8x6": [2], "24x25": [4]}  # the recorded layers by the shape of their matrix


def recorded_convolutions() -> Any:
    """Five convolutions without weight norm, so that the recorded weights are the ones in use."""
    weights = [GOLDEN[f"weight.{i}"] for i in range(5)]
    layers = [
        Conv2d(w.shape[1] * (24 if w.shape[1] == 1 else 1), w.shape[0], tuple(w.shape[2:]), groups=24 if i == 4 else 1)
        for i, w in enumerate(weights)
    ]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
    return nn.ModuleList(layers)


def recorded_start() -> Any:
    return {str(i): GOLDEN[f"u_init.{shape}"][at] for shape, places in SHAPES.items() for at, i in enumerate(places)}


@pytest.mark.parametrize("at_once", [False, True])
def test_two_calls_reproduce_the_recorded_sums_vectors_and_gradients(at_once: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(spectral, "_in_one_product", lambda _: at_once)
    layers = recorded_convolutions()
    penalty = SpectralPenalty(layers)
    penalty.vectors = {name: u / u.norm() for name, u in recorded_start().items()}
    first = penalty()
    first.backward()
    torch.testing.assert_close(first.detach(), GOLDEN["loss_first"], rtol=1e-5, atol=1e-5)
    for shape, places in SHAPES.items():
        for at, i in enumerate(places):
            torch.testing.assert_close(layers[i].weight.grad, GOLDEN[f"g.weight.{i}"], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(penalty.vectors[str(i)], GOLDEN[f"u_after40.{shape}"][at], rtol=1e-4, atol=1e-5)
    for shape, places in SHAPES.items():
        iteration = Iteration([spectral._weight(layers[i]) for i in places], [recorded_start()[str(i)] for i in places])
        with torch.no_grad():
            iteration.left /= iteration.left.norm(dim=1, keepdim=True)
            iteration.iterate(40)
        torch.testing.assert_close(iteration.right, GOLDEN[f"v_after40.{shape}"], rtol=1e-4, atol=1e-5)
    second = penalty()
    torch.testing.assert_close(second.detach(), GOLDEN["loss_second"], rtol=1e-5, atol=1e-5)
    for shape, places in SHAPES.items():
        for at, i in enumerate(places):
            torch.testing.assert_close(penalty.vectors[str(i)], GOLDEN[f"u_after44.{shape}"][at], rtol=1e-4, atol=1e-5)


LAST = torch.channels_last


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = Conv2d(3, 8, (3, 3))
        self.normed = Conv2d(3, 8, (3, 3), norm=WeightNorm(gain="log", eps=1e-5))
        self.turned = ConvTranspose2d(4, 6, (4, 4))
        self.dense = Dense(8, 8)
        initialize(self, 0)


def test_it_approaches_the_sum_of_the_largest_singular_values_of_the_weights_in_use() -> None:
    model = Mixed().double()
    penalty = SpectralPenalty(model)
    for _ in range(60):
        total = penalty()
    weights = [model.plain.weight, model.normed.effective_weight(), model.turned.weight.transpose(0, 1)]
    exact = sum(torch.linalg.matrix_norm(w.flatten(1), 2) for w in weights)
    torch.testing.assert_close(total, exact, rtol=1e-6, atol=0)
    gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    expected = torch.autograd.grad(exact, list(model.parameters()), allow_unused=True)
    for (name, _), ours, theirs in zip(model.named_parameters(), gradients, expected, strict=True):
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_weights_of_zeros_cost_nothing_and_stay_finite() -> None:
    model = nn.ModuleList([Conv2d(2, 2, (3, 3))])
    model[0].weight.data.zero_()
    total = SpectralPenalty(model)()
    total.backward()
    assert total == 0
    assert model[0].weight.grad.isfinite().all()


def test_vectors_that_were_kept_go_on_as_if_nothing_had_happened() -> None:
    model = Mixed()
    straight = SpectralPenalty(model, seed=1)
    assert straight.tensors() == {}
    straight()
    resumed = SpectralPenalty(model, seed=2)
    resumed.load(straight.tensors())
    assert torch.equal(straight(), resumed())
    assert all(torch.equal(straight.vectors[name], resumed.vectors[name]) for name in straight.vectors)


def test_both_ways_of_iterating_agree(monkeypatch: Any) -> None:
    model, other = Mixed().double(), Mixed().double()
    one, two = SpectralPenalty(model), SpectralPenalty(other)
    first = one()
    monkeypatch.setattr(spectral, "_in_one_product", lambda _: True)
    second = two()
    torch.testing.assert_close(first, second, rtol=1e-10, atol=0)
    for a, b in zip(one.vectors.values(), two.vectors.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_the_gradient_is_that_of_the_same_vectors_and_the_weight_in_use() -> None:
    norms = [WeightNorm("linear", eps=0.1), WeightNorm("log", eps=1e-5), WeightNorm("log", eps=1e-5), None, None]
    masks = [None, None, None, Causal("exclude"), None]
    model = nn.ModuleList(
        Conv2d(3, 4, (3, 3), norm=norm, mask=mask) for norm, mask in zip(norms, masks, strict=True)
    ).append(ConvTranspose2d(3, 4, (4, 4), norm=WeightNorm()))
    initialize(model, 0)
    penalty = SpectralPenalty(model.double())
    total = penalty()
    weights = [layer.effective_weight().movedim(layer.channel_axis, 0).flatten(1) for layer in model]
    expected = torch.zeros((), dtype=torch.float64)
    for weight, u in zip(weights, penalty.vectors.values(), strict=True):
        v = weight.detach().t() @ previous_left(weight.detach(), u)
        expected = expected + u @ weight @ (v / v.norm())
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(total, list(model.parameters()), allow_unused=True),
        torch.autograd.grad(expected, list(model.parameters()), allow_unused=True),
        strict=True,
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def previous_left(weight: Any, u: Any) -> Any:
    """The vector from which one iteration made `u`, but for its length: (W Wᵀ)⁻¹ u."""
    return torch.linalg.solve(weight @ weight.t(), u)


def test_gains_that_share_the_largest_factor_share_its_gradient() -> None:
    model = tiny(norm=True)
    gain = model.encoder.r8.batch_norm[0].weight
    with torch.no_grad():
        gain.copy_(torch.tensor([0.5, -3.0, 3.0, 2, 0, 0, 0, 0]))
    BatchNormPenalty(model)().backward()
    assert gain.grad.tolist() == [0, -0.5, 0.5, 0, 0, 0, 0, 0]


class Doubled(nn.Module):
    """Two layers of every form."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.ModuleList([Mixed(), Mixed()])
        masked = [Conv2d(4, 4, (3, 3), mask=Causal(at="exclude"), norm=WeightNorm()) for _ in range(2)]
        self.masked = nn.ModuleList(masked)
        initialize(self, 1)


def test_layers_in_one_product_cost_what_they_cost_one_by_one_in_either_layout(monkeypatch: Any) -> None:
    results = []
    for at_once, layout in ((False, torch.contiguous_format), (True, torch.contiguous_format), (True, LAST)):
        monkeypatch.setattr(spectral, "_in_one_product", lambda _, at_once=at_once: at_once)
        model = Doubled().double()
        model.to(memory_format=layout)  # type: ignore[call-overload]  # torch states fewer
        penalty = SpectralPenalty(model)
        total = penalty()
        gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        results.append([total, *penalty.vectors.values(), *(g for g in gradients if g is not None)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
