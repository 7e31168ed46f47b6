"""Convolutions whose strides meet a single column, in 16 bits: what oneDNN computes wrongly, computed otherwise."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from hvdsl.runtime.layers import Conv2d, ConvTranspose2d, initialize
from hvdsl.runtime.layers.convolution import Padding


def _close(layer: Conv2d | ConvTranspose2d, x: torch.Tensor, autocast: bool) -> None:
    """Outputs and gradients are those of the same numbers in float64, to the precision of 16 bits."""
    gradients = []
    for exact in (True, False):
        layer.to(torch.float64 if exact else torch.float32 if autocast else torch.bfloat16).zero_grad()
        images = x.to(layer.weight.dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and not exact):
            y = layer(images)
        y.backward(torch.linspace(-1, 1, y.numel()).reshape(y.shape).bfloat16().to(y.dtype))
        assert images.grad is not None and layer.weight.grad is not None
        gradients.append([value.double() for value in (y.detach(), images.grad, layer.weight.grad)])
    for exact_value, value in zip(*gradients, strict=True):
        assert value.shape == exact_value.shape
        assert (value - exact_value).norm() <= 2e-2 * exact_value.norm()


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_weight_gradients_are_right(width: int, autocast: bool) -> None:
    geometries = product([(3, 3), (5, 5), (2, 7)], [(2, 2), (1, 3), (4, 4)], [3, 16], [True, False])
    paddings: tuple[Padding, ...] = ("tf", (1, 2, 3, 3))
    for (kernel, stride, channels, transposed), padding in product(geometries, paddings):
        layer = (
            ConvTranspose2d(channels, 32, kernel, stride=stride, padding="tf")
            if transposed
            else Conv2d(channels, 32, kernel, stride=stride, padding=padding)
        )
        initialize(layer, 0)
        with torch.no_grad():
            layer.weight.copy_(layer.weight.bfloat16())
        _close(layer, torch.randn(2, channels, 4, width).bfloat16(), autocast)
