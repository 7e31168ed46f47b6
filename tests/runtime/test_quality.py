"""The structural similarity, against what it is by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hvdsl.runtime.inference.scores import K1, K2, SIGMA, ssim


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3)).float()


def test_ssim_of_equal_images_is_one_and_of_constant_ones_the_luminance() -> None:
    x = pictures(2, 3, 16, 16)
    assert torch.allclose(ssim(x, x, 255), torch.ones(2, dtype=torch.float64))
    a, b, c1 = 50.0, 90.0, (K1 * 255) ** 2
    low, high = torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b)
    assert ssim(low, high, 255).item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


@pytest.mark.parametrize("side", [13, 8])
def test_ssim_is_the_formula_window_by_window(side: int) -> None:
    x, y = pictures(1, 1, side, side)[0, 0].double(), pictures(2, 1, side, side)[1, 0].double()
    size = 11 if side >= 11 else 7
    weights = [math.exp(-((i - size // 2) ** 2) / (2 * SIGMA**2)) for i in range(size)]
    window = torch.tensor([[a * b for b in weights] for a in weights], dtype=torch.float64)
    window /= window.sum()
    c1, c2, values = (K1 * 255) ** 2, (K2 * 255) ** 2, []
    for i in range(side - size + 1):
        for j in range(side - size + 1):
            p, q = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append(((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))).item())
    assert ssim(x[None, None], y[None, None], 255).item() == pytest.approx(sum(values) / len(values), rel=1e-9)
