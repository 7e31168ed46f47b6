"""Batch norm over the whole batch of several processes, put in place from outside: layers know of one process.

torch's own `SyncBatchNorm` refuses CPU tensors; this one works wherever all-reduce does.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.layers import BatchNorm2d, BatchNormSiLU
from hvdsl.runtime.layers.norms import DegenerateBatchError


def synchronise_batch_norm(model: nn.Module) -> int:
    """Let every batch norm, while it trains, normalise by statistics over all processes; says how many there are.

    The gradient flows through the exchange, so that one process on a batch and two on its halves train alike. All
    processes must run the model the same number of times.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for norm in norms:
        norm.forward = _synchronised(norm, norm.forward)  # type: ignore[method-assign]  # of this instance alone
    return len(norms)


def _synchronised(norm: BatchNorm2d, alone: Any) -> Any:
    @functools.wraps(alone)
    def forward(x: Tensor) -> Tensor:
        if not norm.training:
            result: Tensor = alone(x)
            return result
        y = _normalise(norm, x)
        return F.silu(y) if isinstance(norm, BatchNormSiLU) else y

    return forward


def _normalise(norm: BatchNorm2d, x: Tensor) -> Tensor:
    """(x - μ) / √(σ² + eps) · weight + bias; moves the running statistics, with σ² n / (n - 1)."""
    wide = x if x.dtype == torch.float64 else x.float()
    own = x.numel() // x.shape[1]
    sums = _sum(torch.cat((wide.sum((0, 2, 3)), wide.new_full((1,), own))))
    count = sums[-1].detach()
    if own * dist.get_world_size() == 1:
        raise DegenerateBatchError(
            "batch normalisation over all processes has one value per channel to take a variance of: "
            "train with at least two images per pass, or use another norm at this resolution"
        )
    mean = sums[:-1] / count
    centred = wide - _per_channel(mean)
    variance = _sum(centred.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var), norm.momentum)
    y = centred * _per_channel(norm.weight * torch.rsqrt(variance + norm.eps)) + _per_channel(norm.bias)
    return y.to(x.dtype)


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]  # torch's own
    return total


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


class _Sum(torch.autograd.Function):
    """The sum over all processes; what depends on it anywhere sends its gradient everywhere."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
