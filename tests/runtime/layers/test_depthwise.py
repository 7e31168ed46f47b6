"""Depthwise convolution: values are torch's, gradients torch's to rounding, in every geometry."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hvdsl.runtime.layers import Conv2d, initialize


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("stride", "dilation", "kernel"), [(1, 1, 5), (2, 1, 5), (1, 2, 3), (2, 1, 4), (3, 2, 3)])
def test_it_is_the_convolution_in_as_many_groups_as_channels(
    stride: Any, dilation: Any, kernel: Any, layout: Any
) -> None:
    layer = Conv2d(6, 6, (kernel, kernel), stride=stride, dilation=dilation, groups=6).double()
    initialize(layer, 0)
    x = torch.randn(3, 6, 9, 8, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    y = layer(x)
    assert layer.padding is not None
    top, _, left, _ = layer.padding
    expected = F.conv2d(x, layer.weight, layer.bias, stride, (top, left), dilation, 6)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    gradient = torch.randn_like(y)
    wanted = [x, layer.weight, layer.bias]
    for ours, theirs in zip(
        torch.autograd.grad(y, wanted, gradient), torch.autograd.grad(expected, wanted, gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_mixed_precision_and_frozen_weights_take_torchs_own_way() -> None:
    layer = Conv2d(4, 4, (3, 3), groups=4, bias=False)
    initialize(layer, 0)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, 4, 5, 5)).float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    layer.requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
