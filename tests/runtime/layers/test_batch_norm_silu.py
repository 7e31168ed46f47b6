"""The fused batch norm and SiLU against the two layers, and what it keeps."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hvdsl.runtime.layers import BatchNorm2d, BatchNormSiLU


def pair(channels: Any, dtype: Any = torch.float32) -> Any:
    plain, fused = (made(channels, momentum=0.05).to(dtype) for made in (BatchNorm2d, BatchNormSiLU))
    for layer in (plain, fused):
        torch.manual_seed(0)
        with torch.no_grad():
            layer.weight.normal_()
            layer.bias.normal_()
        layer.running_mean.zero_()
        layer.running_var.fill_(1)
    return plain, fused


def run(layer: Any, x: Any, gradient: Any) -> Any:
    x = x.clone().requires_grad_()
    y = F.silu(layer(x)) if type(layer) is BatchNorm2d else layer(x)
    return y.detach(), torch.autograd.grad(y, [x, layer.weight, layer.bias], gradient)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_the_two_layers(layout: Any, dtype: Any) -> None:
    plain, fused = pair(24, dtype)
    x = (3 * torch.randn(4, 24, 8, 8, dtype=dtype) + 1).contiguous(memory_format=layout)
    gradient = torch.randn_like(x)
    expected, gradients = run(plain, x, gradient)
    result, ours = run(fused, x, gradient)
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=layout)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    for a, b in zip(ours, gradients, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    assert torch.equal(plain.running_mean, fused.running_mean)
    assert torch.equal(plain.running_var, fused.running_var)
    assert torch.equal(fused.eval()(x), F.silu(plain.eval()(x)))


def test_it_keeps_its_input_and_nothing_else_of_that_size() -> None:
    kept = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    sizes = []
    for layer in pair(16):
        kept.clear()
        x = torch.randn(4, 16, 8, 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = F.silu(layer(x)) if type(layer) is BatchNorm2d else layer(x)
        y.sum().backward()
        sizes.append(sum(1 for n in kept.values() if n == x.numel()))
    assert sizes == [2, 1]


@pytest.mark.parametrize("made", [BatchNorm2d, BatchNormSiLU])
def test_one_value_per_channel_is_refused_in_training_alone(made: Any) -> None:
    layer = pair(4)[made is BatchNormSiLU]
    with pytest.raises(ValueError, match=r"4 channels has one value per channel .* train with at least two images"):
        layer(torch.randn(1, 4, 1, 1))
    assert layer.eval()(torch.randn(1, 4, 1, 1)).isfinite().all()
