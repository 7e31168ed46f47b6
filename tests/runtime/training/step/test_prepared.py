"""Weights cast together in mixed precision: the same step, bit for bit, as when autocast casts each of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hvdsl.grammar.source import Source
from hvdsl.runtime.layers import Causal, Conv2d, ConvTranspose2d, Scope, WeightNorm, initialize
from hvdsl.runtime.layers.own import Own
from hvdsl.runtime.training.step import fast_paths
from hvdsl.runtime.training.step.prepared import PreparedWeights
from tests.cli.conftest import TINY
from tests.runtime.training.step.test_no_host_reads import FAMILIES, batch, built, optimization


def trained(spec: str | Source, **overrides: str) -> list[Tensor]:
    """What all parameters are after two steps in bf16."""
    model, settings = built(spec, **{"train.precision": "bf16"} | overrides)
    updates = optimization(model, settings)
    for _ in range(2):
        updates.step([batch(model, settings, "cpu")] * 2)
    return list(model.parameters())


@pytest.mark.parametrize("checkpointing", ["none", "group"])
def test_steps_are_those_of_autocast(checkpointing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Source("tiny.hv", TINY)
    one_by_one = trained(tiny, **{"train.checkpointing": checkpointing})
    monkeypatch.setattr(fast_paths, "casts_together", lambda device: True)
    assert all(map(torch.equal, one_by_one, trained(tiny, **{"train.checkpointing": checkpointing})))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_steps_of_each_family_are_those_of_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = trained(name)
    monkeypatch.setattr(fast_paths, "casts_together", lambda device: True)
    assert all(map(torch.equal, one_by_one, trained(name)))


def test_weights_normalised_together_give_the_same_gradients_in_any_layout() -> None:
    log, mask = WeightNorm(gain="log", eps=1e-5), Causal(at="exclude")
    for layout in (torch.contiguous_format, torch.channels_last):
        model = Scope(
            log=[Conv2d(4, 4, (3, 3), norm=log) for _ in range(2)],
            masked=[Conv2d(4, 4, (3, 3), norm=WeightNorm(), mask=mask) for _ in range(2)],
            up=[ConvTranspose2d(4, 4, (4, 4), norm=WeightNorm())],
        )
        initialize(model, 0)
        model.to(memory_format=layout)  # type: ignore[call-overload]  # torch states fewer
        layers = [*model.log, *model.masked, *model.up]
        for i, layer in enumerate(layers):
            layer.gain.data.add_(0.1 * i)
        x, results = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)), []
        for together in (False, True):
            weights = PreparedWeights(model, None, normalise=together)
            with weights.in_use():
                assert (layers[0].norm is None) == together
                y = sum(layer(x).square().mean() for layer in layers)
            results.append([y, *torch.autograd.grad(y, list(model.parameters()), allow_unused=True)])
            assert layers[0].norm is log and layers[2].mask is not None
        for one, other in zip(*results, strict=True):
            if one is not None:
                torch.testing.assert_close(other, one)


def test_layers_find_casts_of_what_is_used_as_it_is_while_gradients_are_wanted() -> None:
    frozen, shared = Conv2d(2, 2, (1, 1)), Scope(conv=Conv2d(2, 2, (1, 1)))
    frozen.requires_grad_(False)
    model = Scope(plain=Conv2d(2, 3, (3, 3)), frozen=frozen, shared=shared, own=Own(shared, "bias"))
    weights = PreparedWeights(model, torch.bfloat16, normalise=True)

    def types() -> list[torch.dtype]:
        layers: list[nn.Module] = [model.plain, shared.conv, frozen]
        return [getattr(layer, role).dtype for layer in layers for role in ("weight", "bias")]

    with weights.in_use():
        low, full = torch.bfloat16, torch.float32
        assert types() == [low, low, low, full, full, full]
        assert all(p.dtype == torch.float32 for p in model.parameters())
        model.plain(torch.ones(1, 2, 3, 3).bfloat16()).sum().backward()
    with torch.no_grad(), weights.in_use():
        assert set(types()) == {torch.float32}
    assert set(types()) == {torch.float32}
    assert model.plain.weight.grad.dtype == torch.float32 and model.plain.bias.grad.tolist() == [9, 9, 9]
