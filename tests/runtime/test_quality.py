"""The peak signal-to-noise ratio and the structural similarity, against what they are by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hvdsl.runtime.inference.quality import K1, K2, SIGMA, psnr, ssim


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3)).float()


def test_psnr_is_that_of_each_image() -> None:
    x = torch.full((2, 3, 4, 4), 100.0)
    y = x.clone()
    y[1] += 5
    assert psnr(x, y, 255).tolist() == [math.inf, pytest.approx(10 * math.log10(255**2 / 25))]


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
