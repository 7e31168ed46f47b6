"""Normalisations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.runtime.layers.init import Fill, Init, Layer, ones, zeros


class DegenerateBatchError(ValueError):
    """A batch gives a normalisation a single value per channel, which has no variance."""


class _Norm(Layer):
    """A gain (`weight`) and a shift (`bias`) per channel."""

    def __init__(self, channels: int, eps: float, weight_init: Init | None, bias_init: Init | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.eps, self.weight_init, self.bias_init = eps, weight_init or ones(), bias_init or zeros()

    def initial(self, fill: Fill) -> None:
        fill("weight", self.weight_init, 1)
        fill("bias", self.bias_init, 1)


class BatchNorm2d(_Norm):
    """Batch normalisation (Ioffe & Szegedy 2015) per channel of `(N, C, H, W)`.

    Running statistics move by `momentum` towards the batch's: new = (1 - momentum) · old + momentum · batch, with the
    unbiased variance. Outside training they are what normalises.
    """

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
    ) -> None:
        super().__init__(channels, eps, weight_init, bias_init)
        self.momentum = momentum
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def _check(self, x: Tensor) -> None:
        """Refuse a batch whose variance is undefined, in the words of what to do about it."""
        if self.training and x.numel() == x.shape[1]:
            raise DegenerateBatchError(
                f"batch normalisation of {x.shape[1]} channels has one value per channel to take a variance of "
                f"(maps of {x.shape[2]}x{x.shape[3]}, one image): train with at least two images per pass, "
                "or use another norm at this resolution"
            )

    def initial(self, fill: Fill) -> None:
        super().initial(fill)
        self.running_mean.zero_()
        self.running_var.fill_(1)


@contextmanager
def statistics_held(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Batch norms among `modules` whose running statistics stay as they are while a further forward pass runs."""
    norms = [module for module in modules if isinstance(module, BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class BatchNormSiLU(BatchNorm2d):
    """`silu(batch_norm(x))` of `(N, C, H, W)` that keeps x alone for the backward pass.

    Batch norm keeps its input and SiLU keeps its own, which is one affine map away: computing it again costs one pass
    over the map and saves a quarter of what a stack of them keeps. The result is bitwise that of the two layers. In
    the backward pass the map is applied with the variance taken back from its kept inverse root, so that gradients
    agree to rounding (1e-6 of the largest in float32).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not torch.is_grad_enabled():
            return F.silu(super().forward(x))
        self._check(x)
        result: Tensor = _NormalisedSiLU.apply(  # type: ignore[no-untyped-call]  # torch's own
            x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
        )
        return result


class _NormalisedSiLU(torch.autograd.Function):
    """Batch norm by the batch's own statistics, then x · sigmoid(x); updates the running statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, mean, inverse_root = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse_root)
        ctx.eps = eps
        return F.silu(y, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_root = ctx.saved_tensors
        variance = (inverse_root.double().pow(-2) - ctx.eps).to(mean.dtype)
        y = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, ctx.eps)
        before_silu = torch.ops.aten.silu_backward(gradient, y)
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            before_silu, x, weight, None, None, mean, inverse_root, True, ctx.eps, [True, True, True]
        )
        return of_x, of_weight, of_bias, None, None, None, None


class GroupNorm(_Norm):
    """Group normalisation (Wu & He 2018): over groups of channels and all positions of `(N, C, H, W)`."""

    def __init__(
        self,
        groups: int,
        channels: int,
        *,
        eps: float = 1e-5,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
    ) -> None:
        if channels % groups:
            raise ValueError(f"{groups} groups do not divide {channels} channels")
        super().__init__(channels, eps, weight_init, bias_init)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)


class LayerNorm(_Norm):
    """Layer normalisation (Ba, Kiros & Hinton 2016) over the channels of each position of `(N, C, H, W)`."""

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
    ) -> None:
        super().__init__(channels, eps, weight_init, bias_init)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps)
        return x.movedim(-1, 1)
