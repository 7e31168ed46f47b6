"""A small stack with both kinds of batch norm, and its gradients."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from hvdsl.runtime.layers import BatchNorm2d, BatchNormSiLU, Conv2d, initialize
from hvdsl.runtime.training.step.processes import synchronise_batch_norm


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


def gradients_of_half(file: Path) -> None:
    """One of two gloo processes that train on the halves of a batch; the first writes their gradients and buffers."""
    dist.init_process_group("gloo")
    model = made()
    assert synchronise_batch_norm(model) == 2
    rank = dist.get_rank()
    tensors = gradients(model, data()[rank * 3 : rank * 3 + 3])
    for gradient in tensors.values():
        dist.all_reduce(gradient)
    if rank == 0:
        torch.save(tensors | {f"buffer {name}": b for name, b in model.named_buffers()}, file)
    dist.destroy_process_group()
