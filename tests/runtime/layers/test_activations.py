"""GELU in either layout, and in which precision what products read is computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hvdsl.runtime.layers import gelu, low_precision


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 6, 1, 1), (2, 1, 4, 4), (3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gelu_is_the_same_in_both_layouts_and_keeps_them(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator)).to(dtype)
    upstream = torch.randn(shape, generator=generator).to(dtype)
    if x.dim() == 4:
        x, upstream = (t.contiguous(memory_format=torch.channels_last) for t in (x, upstream))
    x.requires_grad_()
    y = gelu(x)
    assert y.dtype == dtype and y.stride() == x.stride()
    [gradient] = torch.autograd.grad(y, x, upstream)
    assert gradient.stride() == x.stride()
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact)
    [slope] = torch.autograd.grad(expected, exact, upstream.double())
    tolerance = {"rtol": 2**-8, "atol": 1e-3} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(y.double(), expected, **tolerance)
    torch.testing.assert_close(gradient.double(), slope, **tolerance)


def test_gelu_of_maps_in_no_layout_is_the_same() -> None:
    x = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    for part in (x[:, 1:4], x.transpose(2, 3), x.contiguous(memory_format=torch.channels_last)[:, 2:]):
        torch.testing.assert_close(gelu(part), F.gelu(part.contiguous()))


def test_low_precision_is_that_of_products_in_bf16_only() -> None:
    x = torch.full((1, 2, 3, 3), -1e5)  # beyond fp16, where it would be infinite, and its GELU no number
    assert low_precision(x) is x and low_precision(x.to("meta")).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert low_precision(x).dtype == torch.bfloat16
        assert low_precision(x.bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert low_precision(x) is x
    with torch.autocast("cpu", torch.float16):
        assert low_precision(x) is x
