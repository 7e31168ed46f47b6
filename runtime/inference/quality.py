"""How near images are to others, per image: the peak signal-to-noise ratio and the structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III B and C


def psnr(images: Tensor, others: Tensor, peak: float) -> Tensor:
    """Return 10 log10(peak² / mean squared error) of each image, `(N,)` dB; infinite where nothing differs.

    Args:
        images: `(N, C, H, W)`.
        others: of the same shape.
        peak: the largest value that a pixel can have.
    """
    error = (images.double() - others.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / error)


def ssim(images: Tensor, others: Tensor, peak: float) -> Tensor:
    """Return the mean structural similarity of each image, `(N,)`, at most 1 (Wang, Bovik, Sheikh & Simoncelli 2004).

    Means, variances and the covariance are weighted by a Gaussian window of 11x11 with standard deviation 1.5, within
    the image (equations 14 to 16), and the index (equation 13) is averaged over all windows and channels. Images with a
    side below 11 have the largest odd window that fits.

    Args:
        images: `(N, C, H, W)`.
        others: of the same shape.
        peak: the largest value that a pixel can have.
    """
    x, y = images.double(), others.double()
    size = min(WINDOW, *((side - 1) // 2 * 2 + 1 for side in x.shape[2:]))
    offsets = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    line = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def mean(values: Tensor) -> Tensor:
        return functional.conv2d(values.flatten(0, 1)[:, None], window).view(*values.shape[:2], -1)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).flatten(1).mean(1)
