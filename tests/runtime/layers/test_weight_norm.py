"""The weight in use under weight normalisation, and its written-down gradient."""

from typing import Any

import pytest
import torch

from hvdsl.runtime.layers import WeightNorm


def formula(norm: WeightNorm, direction: Any, gain: Any, axis: int) -> Any:
    others = [i for i in range(direction.dim()) if i != axis]
    lengths = direction.square().sum(others, keepdim=True).sqrt()
    return direction * ((gain.exp() if norm.gain == "log" else gain) / (lengths + norm.eps))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("norm", [WeightNorm(), WeightNorm("linear", eps=0.1), WeightNorm("log", eps=0.1)])
def test_values_and_gradients_are_those_of_the_formula(norm: WeightNorm, axis: int) -> None:
    direction = torch.randn(4, 3, 5, 2, dtype=torch.float64, requires_grad=True)
    gain = torch.randn([n if i == axis else 1 for i, n in enumerate(direction.shape)], dtype=torch.float64)
    gain.requires_grad_()
    weight, expected = norm.weight(direction, gain, axis), formula(norm, direction, gain, axis)
    torch.testing.assert_close(weight, expected, rtol=1e-12, atol=1e-12)
    gradient = torch.randn_like(weight)
    ours, theirs = (torch.autograd.grad(w, (direction, gain), gradient) for w in (weight, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_channel_of_zeros_stays_zero_and_has_a_finite_gradient() -> None:
    direction = torch.zeros(2, 3, 1, 1, requires_grad=True)
    weight = WeightNorm("log", eps=1e-5).weight(direction, torch.zeros(2, 1, 1, 1), 0)
    assert torch.equal(weight, torch.zeros_like(direction))
    weight.sum().backward()
    torch.testing.assert_close(direction.grad, torch.full_like(direction, 1e5))
