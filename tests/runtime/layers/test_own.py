"""Uses of a shared module with roles of their own."""

from __future__ import annotations

import copy

import torch
from torch import nn

from hvdsl.runtime.layers import Affine, Conv2d, Own, Scope, WeightNorm, gaussian, initialize
from hvdsl.runtime.training.step.start_from_batch import start_from_batch


class Shared(nn.Module):
    def __init__(self, norm: WeightNorm | None = None) -> None:
        super().__init__()
        self.conv = nn.ModuleList([Conv2d(2, 3, (1, 1), norm=norm, bias_init=gaussian(1.0))])
        self.body = Scope(affine=[Affine(3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body.affine[0](self.conv[0](x))


class Model(nn.Module):
    def __init__(self, *roles: str, norm: WeightNorm | None = None) -> None:
        super().__init__()
        self.f = Shared(norm)
        self.f_own = nn.ModuleList([Own(self.f, *roles) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(x) + self.f_own[0](x)


def test_parameters_are_named_after_the_shared_modules_and_nothing_else_is_owned() -> None:
    names = [name for name, _ in Model("bias").named_parameters() if "own.0" in name]
    assert names == ["f_own.0.conv.0.bias", "f_own.0.body.affine.0.bias"]


def test_a_use_takes_its_own_roles_and_the_modules_other_ones() -> None:
    model, x = Model("bias"), torch.randn(4, 2, 3, 3)
    initialize(model, 0)
    own = copy.deepcopy(model.f)
    own.load_state_dict(own.state_dict() | model.f_own[0].state_dict())
    assert not torch.equal(model.f_own[0](x), model.f(x))
    torch.testing.assert_close(model.f_own[0](x), own(x))


def test_gradients_reach_own_roles_apart_and_shared_ones_together() -> None:
    model, x = Model("bias"), torch.randn(4, 2, 3, 3)
    initialize(model, 0)
    model(x).sum().backward()
    weight = model.f.conv[0].weight.grad.clone()
    model.zero_grad()
    model.f_own[0](x).sum().backward()
    assert model.f.conv[0].bias.grad is None and model.f_own[0].get_parameter("conv.0.bias").grad is not None
    torch.testing.assert_close(2 * model.f.conv[0].weight.grad, weight)


def test_own_roles_start_by_the_rules_of_the_layer_from_streams_of_their_own() -> None:
    norm = WeightNorm()
    model = Model("bias", "gain", norm=norm)
    initialize(model, 0)
    shared = {name: value.clone() for name, value in model.f.state_dict().items()}
    first = model.f_own[0]
    assert torch.equal(first.get_parameter("conv.0.gain"), model.f.conv[0].gain)  # the norm of the common weight
    assert not torch.equal(*(use.get_parameter("conv.0.bias") for use in model.f_own))
    alone = Shared(norm)
    initialize(nn.ModuleDict({"f": alone}), 0)
    assert all(torch.equal(value, shared[name]) for name, value in alone.state_dict().items())


def test_each_use_with_its_own_gain_starts_from_the_batch_that_it_meets() -> None:
    model, x = Model("bias", "gain", norm=WeightNorm(start=1.0)), torch.randn(64, 2, 4, 4)
    del model.f_own[1]
    initialize(model, 0)

    def run() -> torch.Tensor:
        return model.f(x) + model.f_own[0](5 * x + 1)

    assert start_from_batch(model, run) == 2
    for out in (model.f(x), model.f_own[0](5 * x + 1)):
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-3)
        torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(3), rtol=1e-2, atol=0)
