"""A small stack with both kinds of batch norm, and its gradients."""

from typing import Any

import torch
from torch import nn

from hvdsl.runtime.layers import BatchNorm2d, BatchNormSiLU, Conv2d, initialize


def made() -> Any:
    model = nn.Sequential(Conv2d(2, 4, (3, 3), bias=False), BatchNormSiLU(4), Conv2d(4, 3, (3, 3)), BatchNorm2d(3))
    initialize(model, 0)
    return model.double()


def data() -> Any:
    return torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gradients(model: Any, x: Any) -> Any:
    """Of a sum over images, so that the gradients of the halves add up to those of the whole."""
    weights = torch.linspace(-1, 1, 75, dtype=torch.float64).view(3, 5, 5)
    (model(x).tanh() * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}
