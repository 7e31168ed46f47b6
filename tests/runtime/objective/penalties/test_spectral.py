"""The spectral penalty against the recorded one, against exact singular values, and as state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvdsl.runtime.layers import Conv2d, ConvTranspose2d, Dense, WeightNorm, initialize
from hvdsl.runtime.objective.penalties import spectral
from hvdsl.runtime.objective.penalties.spectral import SpectralPenalty

GOLDEN = load_file(Path(__file__).parents[3] / "golden" / "nvae_cells" / "spectral.safetensors")
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


@pytest.mark.parametrize("way", [spectral._one_by_one, spectral._by_shape])
def test_two_calls_reproduce_the_recorded_sums_vectors_and_gradients(way: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(spectral, "_one_by_one", way)
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
    matrices = [spectral._matrix(layer).detach() for layer in layers]
    _, right = way(matrices, [recorded_start()[str(i)] / recorded_start()[str(i)].norm() for i in range(5)], 40)
    for shape, places in SHAPES.items():
        torch.testing.assert_close(
            torch.stack([right[i] for i in places]), GOLDEN[f"v_after40.{shape}"], rtol=1e-4, atol=1e-5
        )
    second = penalty()
    torch.testing.assert_close(second.detach(), GOLDEN["loss_second"], rtol=1e-5, atol=1e-5)
    for shape, places in SHAPES.items():
        for at, i in enumerate(places):
            torch.testing.assert_close(penalty.vectors[str(i)], GOLDEN[f"u_after44.{shape}"][at], rtol=1e-4, atol=1e-5)


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


def test_both_ways_of_iterating_agree() -> None:
    model = Mixed()
    matrices = [spectral._matrix(layer).detach() for _, layer in spectral._convolutions(model)]
    starts = list(SpectralPenalty(model).vectors.values())
    for one, other in zip(
        spectral._one_by_one(matrices, starts, 5), spectral._by_shape(matrices, starts, 5), strict=True
    ):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)
