"""Strided convolutions that oneDNN computes wrongly, or beyond its memory: computed otherwise."""

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


@pytest.mark.parametrize("groups", [1, 2])
def test_strided_1x1_kernels_on_channels_last_maps_are_the_same(groups: int) -> None:
    layer = Conv2d(8, 4, (1, 1), stride=(2, 3), padding="tf", groups=groups).double()
    initialize(layer, 0)
    plain = torch.randn(2, 8, 9, 8, dtype=torch.float64)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = plain.contiguous(memory_format=layout).requires_grad_()
        y = layer(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, layer.weight])))
    for value, other in zip(*results, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
