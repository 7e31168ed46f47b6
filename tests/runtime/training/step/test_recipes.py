"""Activation checkpointing changes nothing but memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.runtime.layers import Own, initialize
from hvdsl.runtime.training.step.recipes import checkpoint_groups
from tests.runtime.training.steps import (
    BatchNormed,
    ConvAndNorm,
    optimization,
    part,
    same,
    trainer,
    weights,
)
from tests.runtime.training.tiny_hierarchy import tiny


def test_activation_checkpointing_gives_bitwise_the_same_weights() -> None:
    plain, recomputed = tiny(dropout=0.3), tiny(dropout=0.3)
    trainer(plain).fit()
    trainer(recomputed, checkpointing="group").fit()
    assert same(weights(plain), weights(recomputed))


def test_activation_checkpointing_keeps_fewer_activations() -> None:
    def saved(**train: Any) -> int:
        made, storages = optimization(tiny(), **train), {}

        def pack(t: Tensor) -> Tensor:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            made._backward([part()])
        return sum(storages.values())

    # Inside a recomputed region the hooks of checkpointing, not ours, see what is saved.
    assert saved(checkpointing="group") < 0.5 * saved()


def test_activation_checkpointing_moves_running_statistics_once() -> None:
    plain, recomputed = (BatchNormed() for _ in range(2))
    x = torch.randn(4, 3, 5, 5)
    assert checkpoint_groups(recomputed) == 1
    for model in (plain, recomputed):
        model.train()(x).square().sum().backward()
    for a, b in zip(plain.state_dict().values(), recomputed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for p, q in zip(plain.parameters(), recomputed.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert torch.equal(p.grad, q.grad)


def test_a_shared_recipe_that_is_called_with_other_parameters_is_not_recomputed() -> None:
    def gradients(checkpointed: bool) -> list[Tensor]:
        model = nn.Module()
        model.shared = ConvAndNorm()
        model.own = Own(model.shared, "bias")
        initialize(model, 0)
        if checkpointed:
            assert checkpoint_groups(model) == 0
        x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        (model.train().shared(x).sum() + model.own(x).square().sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    assert all(map(torch.equal, gradients(checkpointed=True), gradients(checkpointed=False)))
