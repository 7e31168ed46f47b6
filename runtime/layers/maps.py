"""Learned and constant maps, and per-channel affine maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvdsl.runtime.layers.init import Fill, Init, Layer, ones, zeros


class Affine(Layer):
    """gain · x + bias, one of each per channel of `(N, C, H, W)`."""

    def __init__(self, channels: int, *, gain_init: Init | None = None, bias_init: Init | None = None) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))
        self.gain_init, self.bias_init = gain_init or ones(), bias_init or zeros()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.bias

    def initial(self, fill: Fill) -> None:
        fill("gain", self.gain_init, 1)
        fill("bias", self.bias_init, 1)


class Learned(Layer):
    """A parameter map `(C, H, W)`; `forward(batch)` is that map for each image, `(batch, C, H, W)`, without a copy."""

    def __init__(self, shape: tuple[int, int, int], init: Init | None = None) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(shape))
        self.init = init or zeros()

    def forward(self, batch: int) -> Tensor:
        return self.value.expand(batch, *self.value.shape)

    def initial(self, fill: Fill) -> None:
        fill("value", self.init, self.value[0].numel())


class Constant(Layer):
    """One number everywhere: `forward(batch)` is `(batch, C, H, W)`, without a copy.

    It is a buffer, so that it follows the module to a device and to another floating-point type, but no part of the
    state dict.
    """

    def __init__(self, shape: tuple[int, int, int], number: float) -> None:
        super().__init__()
        self.number = number
        self.value: Tensor
        self.register_buffer("value", torch.full(shape, number), persistent=False)

    def forward(self, batch: int) -> Tensor:
        return self.value.expand(batch, *self.value.shape)

    def initial(self, fill: Fill) -> None:
        self.value.fill_(self.number)
