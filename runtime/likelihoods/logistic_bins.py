"""The log-probability of a bin under a logistic distribution, in two forms.

With s = exp(-log scale), d = x - mean and half a bin h: a = s (d + h) and b = s (d - h) are the bin's edges, and its
mass is sigmoid(a) - sigmoid(b). The lowest bin also holds what is below it, sigmoid(a); the highest what is above,
sigmoid(-b).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 1e-30  # of a bin's width in scales: finite logarithm and gradient where exp(-log scale) underflows


def exact_log_mass(x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float) -> Tensor:
    """log mass = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(-(a - b))), without cancellation.

    a - b = 2 h s holds exactly, so no difference of nearly equal numbers is ever formed, and the masses of a grid sum
    to 1.
    """
    inverse = torch.exp(-log_scale)
    width = (2 * half_bin * inverse).clamp_min(_SMALLEST)
    below_a = F.logsigmoid(inverse * (distance + half_bin))
    above_b = F.logsigmoid(-inverse * (distance - half_bin))
    between = torch.log(-torch.expm1(-width))
    lowest, highest = x < -1 + half_bin, x > 1 - half_bin
    return torch.where(lowest, below_a, torch.where(highest, above_b, below_a + above_b + between))


def published_log_mass(
    x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float, lower_edge: float, upper_edge: float
) -> Tensor:
    """The form of the released PixelCNN++ code and its descendants: the numbers that papers report are in it.

    Where sigmoid(a) - sigmoid(b) is not above 1e-5, the density at the centre times the bin's width stands in:
    s d - log scale - 2 softplus(s d) + log(2 h). Targets below `lower_edge` or above `upper_edge` take the tails.
    """
    inverse = torch.exp(-log_scale)
    a = inverse * (distance + half_bin)
    b = inverse * (distance - half_bin)
    centre = inverse * distance
    mass = torch.sigmoid(a) - torch.sigmoid(b)
    density = centre - log_scale - 2 * F.softplus(centre) - math.log(0.5 / half_bin)
    inner = torch.where(mass > 1e-5, torch.log(mass.clamp_min(1e-12)), density)
    lowest, highest = a - F.softplus(a), -F.softplus(b)
    return torch.where(x < lower_edge, lowest, torch.where(x > upper_edge, highest, inner))
