"""Normalisations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.layers.init import Fill, Init, Layer, ones, zeros


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

    def initial(self, fill: Fill) -> None:
        super().initial(fill)
        self.running_mean.zero_()
        self.running_var.fill_(1)


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
