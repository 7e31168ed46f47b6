"""Convolutions and the dense layer. Weights are allocated, never initialised: see `init.initialize`."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.runtime.layers.init import Fill, Init, Layer, fan_in
from hvdsl.runtime.layers.weights import Causal, WeightNorm

Pair = int | tuple[int, int]  # vertical and horizontal
Sides = tuple[int, int, int, int]  # top, bottom, left, right
Padding = Literal["symmetric", "tf", "reflect"] | Sides

ONEDNN_POSITIONS = 128  # of a batch's maps together, from which a 1x1 convolution is faster in oneDNN
ONEDNN_NUMBERS = 20_480  # that a single image has more of where torch gives its convolutions to oneDNN
_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Weighted(Layer):
    """What convolutions and dense layers share: a weight, perhaps its gain, perhaps a bias, and how they start."""

    channel_axis = 0  # the weight's axis of output channels

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        bias: bool,
        norm: WeightNorm | None,
        weight_init: Init,
        bias_init: Init,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.gain: nn.Parameter | None = None
        if norm is not None:
            gain = [n if axis == self.channel_axis else 1 for axis, n in enumerate(shape)]
            self.gain = nn.Parameter(torch.empty(gain))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.norm, self.weight_init, self.bias_init = norm, weight_init, bias_init

    def effective_weight(self) -> Tensor:
        """The weight that the layer multiplies with: masked, then normalised, where the layer is."""
        direction = self._direction()
        if self.norm is None or self.gain is None:
            return direction
        return self.norm.weight(direction, self.gain, self.channel_axis)

    def _direction(self) -> Tensor:
        return self.weight

    def initial(self, fill: Fill) -> None:
        fan = self.weight[0].numel()  # torch's definition, also for transposed convolutions
        fill("weight", self.weight_init, fan)
        if self.bias is not None:
            fill("bias", self.bias_init, fan)
        if self.norm is not None and self.gain is not None:
            self.gain.copy_(self.norm.first_gain(self._direction(), self.channel_axis))


class Conv2d(Weighted):
    """Convolution of `(N, in_channels, H, W)`.

    Padding `symmetric` is the least that gives H / stride rows where the stride divides H; `tf` gives ceil(H / stride)
    always, with an odd row below and an odd column to the right; both are of zeros. `reflect` mirrors the map instead,
    by the symmetric amounts, or by those of `tf` where there are none. Four numbers are zeros at each side.
    A `mask` keeps the kernel elements that precede the output's own position in raster order.

    Raises:
        ValueError: groups do not divide the channels, no symmetric padding exists (an even kernel at stride 1), or a
            mask meets a padding that depends on the map.
    """

    mask: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        *,
        stride: Pair = 1,
        padding: Padding = "symmetric",
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        mask: Causal | None = None,
        norm: WeightNorm | None = None,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
    ) -> None:
        _divides(groups, in_channels, out_channels)
        super().__init__(
            (out_channels, in_channels // groups, *kernel),
            out_channels,
            bias,
            norm,
            weight_init or fan_in(),
            bias_init or fan_in(),
        )
        self.kernel, self.stride, self.dilation, self.groups = kernel, _pair(stride), _pair(dilation), groups
        self.padding = _resolved(padding, kernel, self.stride, self.dilation)
        self.reflect = padding == "reflect"
        self._is_product = self.kernel == self.stride == (1, 1) and groups == 1
        self.causal = mask
        self.register_buffer("mask", self._mask(), persistent=False)

    def _mask(self) -> Tensor | None:
        if self.causal is None:
            return None
        if self.padding is None:
            raise ValueError("a causal mask needs a padding in numbers: use `symmetric` or (top, bottom, left, right)")
        return self.causal.mask(tuple(self.weight.shape), self.groups, self.padding, self.dilation)

    def _direction(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def initial(self, fill: Fill) -> None:
        if self.mask is not None and (mask := self._mask()) is not None:
            self.mask.copy_(mask)  # a layer that was built on `meta` has none yet
        super().initial(fill)

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """With `more`: of all inputs joined along the channels, without joining them; in one group only."""
        if not more:
            return self._convolve(x, self.effective_weight(), self.bias)
        parts = (x, *more)
        weights = torch.split(self.effective_weight(), [part.shape[1] for part in parts], 1)
        y = self._convolve(x, weights[0], self.bias)
        for part, weight in zip(more, weights[1:], strict=True):
            y = y + self._convolve(part, weight, None)
        return y

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        top, bottom, left, right = self._pads(x)
        inside = (top, left)
        if top != bottom or left != right or self.reflect:
            x = F.pad(x, (left, right, top, bottom), mode="reflect" if self.reflect else "constant")
            inside = (0, 0)
        x, stride, inside = self._around_faults(x, inside)
        if 1 < self.groups == x.shape[1] == weight.shape[0]:
            return depthwise_conv2d(x, weight, bias, stride, inside, self.dilation)
        if self._is_product and inside == (0, 0) and x.device.type == "cpu":
            if _suits_onednn(x):
                return F.conv2d(x, weight, bias, dilation=2)
            if x.is_contiguous(memory_format=torch.channels_last):
                return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, bias, stride, inside, self.dilation, self.groups)

    def _around_faults(self, x: Tensor, inside: tuple[int, int]) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
        """The input, strides and padding that compute the same where oneDNN 3.12 fails.

        Strided 1x1 kernels on channels-last maps write beyond its memory: what they read is cut out. In 16 bits, weight
        gradients are wrong by any amount where strides meet a single column of outputs: the columns that it reads are
        cut out, and the stride along them is of no consequence.
        """
        stride, reach = self.stride, (self.kernel[1] - 1) * self.dilation[1] + 1
        if self.kernel == (1, 1) != stride and inside == (0, 0) and x.device.type == "cpu" and not x.is_contiguous():
            return x[:, :, :: stride[0], :: stride[1]], (1, 1), inside
        if stride[1] > 1 and _in_16_bits(x) and x.shape[3] + 2 * inside[1] < reach + stride[1]:
            return F.pad(x, (inside[1], reach - inside[1] - x.shape[3])), (stride[0], 1), (inside[0], 0)
        return x, stride, inside

    def _pads(self, x: Tensor) -> Sides:
        if self.padding is not None:
            return self.padding
        top, bottom = _tf_pads(x.shape[2], self.kernel[0], self.stride[0], self.dilation[0])
        left, right = _tf_pads(x.shape[3], self.kernel[1], self.stride[1], self.dilation[1])
        return top, bottom, left, right

    def extra_repr(self) -> str:
        out_channels, in_channels = self.weight.shape[0], self.weight.shape[1] * self.groups
        return f"{in_channels}, {out_channels}, {self.kernel}, stride={self.stride}, padding={self.padding}"


def _in_16_bits(x: Tensor) -> bool:
    """Whether a convolution of `x` runs in 16 bits on the CPU; see `Conv2d._around_faults`."""
    return x.device.type == "cpu" and (x.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu"))


class ConvTranspose2d(Weighted):
    """Transposed convolution of `(N, in_channels, H, W)` to `(N, out_channels, H · stride, W · stride)`.

    It is the adjoint of the convolution with the same kernel, stride and padding (`symmetric`, or `tf`) whose output
    is H x W. The fan-in of its weight `(in, out / groups, h, w)` is out / groups · h · w, as in torch.

    Raises:
        ValueError: groups do not divide the channels, or are combined with weight normalisation.
    """

    channel_axis = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        *,
        stride: Pair = 2,
        padding: Literal["symmetric", "tf"] = "symmetric",
        groups: int = 1,
        bias: bool = True,
        norm: WeightNorm | None = None,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
    ) -> None:
        _divides(groups, in_channels, out_channels)
        if groups > 1 and norm is not None:
            raise ValueError("a transposed convolution in groups has no weight norm; use groups = 1 or no norm")
        super().__init__(
            (in_channels, out_channels // groups, *kernel),
            out_channels,
            bias,
            norm,
            weight_init or fan_in(),
            bias_init or fan_in(),
        )
        self.kernel, self.stride, self.groups, self.padding = kernel, _pair(stride), groups, padding

    def forward(self, x: Tensor) -> Tensor:
        (above, left), (below, right) = zip(*map(self._border, self.kernel, self.stride), strict=True)
        rows, columns = x.shape[2] * self.stride[0], x.shape[3] * self.stride[1]
        weight, first = self.effective_weight(), 0
        stride = self.stride
        if x.shape[3] == 1 < stride[1] and _in_16_bits(x):  # one column: the kernel's, whatever the stride
            stride, first, left, right = (stride[0], 1), left, 0, 0
            if (missing := first + columns - self.kernel[1]) > 0:
                weight = F.pad(weight, (0, missing))
        y = F.conv_transpose2d(x, weight, self.bias, stride, (above, left), (below, right), self.groups)
        return y[:, :, :rows, first : first + columns]

    def _border(self, kernel: int, stride: int) -> tuple[int, int]:
        """What torch cuts on both sides, and then adds at the end; anything beyond the wanted size is sliced off."""
        surplus = kernel - stride
        if surplus <= 0:
            return 0, -surplus
        cut = surplus // 2 if self.padding == "tf" else (surplus + 1) // 2
        return cut, max(0, 2 * cut - surplus)

    def extra_repr(self) -> str:
        in_channels, out_channels = self.weight.shape[0], self.weight.shape[1] * self.groups
        return f"{in_channels}, {out_channels}, {self.kernel}, stride={self.stride}, padding={self.padding}"


class Dense(Weighted):
    """All channels and positions of `(N, C, H, W)` to `(N, out_features, 1, 1)`; `in_features` is C · H · W."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        norm: WeightNorm | None = None,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
    ) -> None:
        super().__init__(
            (out_features, in_features), out_features, bias, norm, weight_init or fan_in(), bias_init or fan_in()
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.effective_weight(), self.bias)[:, :, None, None]

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


def _divides(groups: int, in_channels: int, out_channels: int) -> None:
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"{groups} groups do not divide {in_channels} input and {out_channels} output channels")


def _suits_onednn(x: Tensor) -> bool:
    """Whether a 1x1 convolution takes less time in oneDNN than as a matrix product.

    On one thread torch gives a 1x1 kernel of a small batch to the product of its BLAS, which on some processors is half
    as fast as oneDNN. A dilation, which means nothing where the kernel has one element, makes torch take oneDNN as it
    does for every other kernel. For few positions the product costs less than the call. Torch keeps a small single
    image from oneDNN, and what it then has for a dilation takes three times as long as the product.
    """
    if x.dtype != torch.float32 or _in_16_bits(x) or torch.compiler.is_compiling():
        return False
    if len(x) == 1 and x.numel() <= ONEDNN_NUMBERS:
        return False
    return _HAS_ONEDNN and x.shape[0] * x.shape[2] * x.shape[3] >= ONEDNN_POSITIONS


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _resolved(
    padding: Padding, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Sides | None:
    """The padding in numbers; None where it depends on the size of the map."""
    if not isinstance(padding, str):
        return padding
    rows, columns = map(_symmetric, kernel, stride, dilation)
    if padding == "tf":
        return None
    if rows is None or columns is None:
        if padding == "reflect":
            return None
        raise ValueError(
            f"no symmetric padding keeps the size under a {kernel[0]}x{kernel[1]} kernel; "
            "use an odd kernel, `tf` or explicit (top, bottom, left, right)"
        )
    return rows, rows, columns, columns


def _symmetric(kernel: int, stride: int, dilation: int) -> int | None:
    extent = (kernel - 1) * dilation + 1
    if extent % 2 == 0 and stride == 1:
        return None
    return max(0, -((stride - extent) // 2))  # ceil((extent - stride) / 2)


def _tf_pads(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    extent = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """`F.conv2d` of `(N, C, H, W)` in C groups, weight `(C, 1, h, w)`; gradients agree with its own to rounding.

    On a CPU torch's own weight gradient takes as long as the rest of the step together: 7 ms channels-last and 19 ms
    contiguous, on one thread, for 4x384x16x16 and a 5x5 kernel, where the forward pass takes 1 ms. The same sum is
    itself a depthwise convolution, which takes 1 to 4 ms.
    """
    own = x.device.type == "cpu" and weight.requires_grad and torch.is_grad_enabled()
    if not own or torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])
    y: Tensor = _Depthwise.apply(x, weight, stride, padding, dilation)  # type: ignore[no-untyped-call]  # torch's own
    return y if bias is None else y + bias[:, None, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, padding, dilation, False, (0, 0), x.shape[1], (True, False, False)
            )
        return of_x, _weight_gradient(x, gradient, weight, stride, padding, dilation), None, None, None


def _weight_gradient(
    x: Tensor,
    gradient: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Each map of x convolved with its own map of the gradient, stride and dilation changing places; summed over N."""
    n, channels, height, width = x.shape
    maps = x.contiguous().view(1, n * channels, height, width)
    kernels = gradient.contiguous().view(n * channels, 1, *gradient.shape[2:])
    each = F.conv2d(maps, kernels, None, dilation, padding, stride, n * channels)
    each = each[:, :, : weight.shape[2], : weight.shape[3]]  # rows below the last that any output has seen
    return each.reshape(n, *weight.shape).sum(0)
