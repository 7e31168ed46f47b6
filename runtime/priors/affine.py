"""Linear maps read off from functions, convolutions as sets of taps, and activations that write into a buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.layers import Conv2d, shift

Map = Callable[..., Tensor]
"""Takes one tensor `(N, C, H, W)` for each operand, then the tensors known beforehand; linear in the operands up to a
constant, each position by itself."""


Function = Callable[..., Tensor]
"""An elementwise function of one tensor that can write into a buffer, `out`."""


def matrix(map: Map, sizes: Sequence[int], constants: Sequence[Tensor], like: Tensor) -> Tensor:
    """The linear part of a map, `(sum of sizes, outputs)`: what it makes of every unit vector, less the constant."""
    count = sum(sizes)
    if map is unchanged:
        return torch.eye(count, device=like.device, dtype=like.dtype)
    zero_and_units = F.pad(torch.eye(count, device=like.device, dtype=like.dtype), (1, 0))
    operands = torch.split(zero_and_units[None, :, None], list(sizes), 1)  # as the columns of one map of one row
    images = map(*operands, *(k[:1, :, :1, :1].expand(-1, -1, -1, count + 1) for k in constants))[0, :, 0]
    return (images[:, 1:] - images[:, :1]).t()


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution, and a shift behind it, as one matrix `(out, in)` for each position that it reads.

    Offsets are (row, column) from the own position. `bias_map` is `(1, out, H, W)`, since what a shift brings in has no
    bias; None without a bias.
    """

    taps: Mapping[tuple[int, int], Tensor]
    bias_map: Tensor | None
    inputs: int
    outputs: int


def convolution(layer: Conv2d, grid: tuple[int, int], down: int = 0, right: int = 0) -> Kernel:
    """The kernel of a causal layer; elements that its mask takes away are no taps."""
    dense = _dense(layer)
    # Taps are wanted transposed, with outputs in one piece: a transposed matrix is copied faster than other orders.
    weight = dense.flatten(1).t().contiguous().view(*dense.shape[1:], -1)  # (in, h, w, out)
    top, _, left, _ = layer.padding or (0, 0, 0, 0)
    kept = layer.mask.amax((0, 1)).tolist() if layer.mask is not None else None
    taps = {}
    for row in range(weight.shape[1]):
        for column in range(weight.shape[2]):
            if kept is None or kept[row][column]:
                offset = row * layer.dilation[0] - top - down, column * layer.dilation[1] - left - right
                taps[offset] = weight[:, row, column].t()
    bias_map = None
    if layer.bias is not None:
        bias_map = layer.bias[None, :, None, None].expand(-1, -1, *grid)
        if down or right:
            bias_map = shift(bias_map, down, right)
    return Kernel(taps, bias_map, weight.shape[0], weight.shape[3])


def moved(channels: int, like: Tensor, down: int, right: int) -> Kernel:
    """A shift alone."""
    own = torch.eye(channels, device=like.device, dtype=like.dtype)
    return Kernel({(-down, -right): own}, None, channels, channels)


def _dense(layer: Conv2d) -> Tensor:
    """The weight `(out, in, h, w)` with zeros between groups."""
    weight = layer.effective_weight()
    if layer.groups == 1:
        return weight
    out, channels = weight.shape[0] // layer.groups, weight.shape[1]
    dense = weight.new_zeros(weight.shape[0], channels * layer.groups, *weight.shape[2:])
    for group in range(layer.groups):
        rows = slice(group * out, (group + 1) * out)
        dense[rows, group * channels : (group + 1) * channels] = weight[rows]
    return dense


class Constant:
    """What a map adds that no code changes: biases, coordinates, conditions.

    What differs from sample to sample is computed one row at a time, to save memory; what does not, at once.

    Attributes:
        vector: `(outputs,)`, where it is the same at every position; else None.
    """

    def __init__(
        self, map: Map, sizes: Sequence[int], constants: Sequence[Tensor], biases: Sequence[Tensor | None], like: Tensor
    ) -> None:
        self._map, self._sizes, self._constants, self._like = map, sizes, tuple(constants), like
        self._biases = biases
        self._batch = max((len(k) for k in constants), default=1)
        self.vector: Tensor | None = None
        self._rows: Tensor | None = None
        if not constants and all(b is None or _uniform(b) for b in biases):
            self.vector = self._between(0, 1, 1)[0, 0, 0].contiguous()
        elif self._batch == 1:
            self._rows = self._between(0, like.shape[2])[0]

    def row(self, i: int) -> Tensor:
        """`(1 or N, W, outputs)`."""
        return self._between(i, i + 1)[:, 0] if self._rows is None else self._rows[i : i + 1]

    def _between(self, start: int, stop: int, columns: int | None = None) -> Tensor:
        """Rows from `start` to before `stop`: `(1 or N, rows, W, outputs)`, or so many of their first columns."""
        shape = self._batch, -1, stop - start, columns or self._like.shape[3]
        operands = []
        for size, bias in zip(self._sizes, self._biases, strict=True):
            part = self._like.new_zeros(1, size, 1, 1) if bias is None else bias[:, :, start:stop, :columns]
            operands.append(part.expand(shape))
        constants = [(k if k.shape[2] == 1 else k[:, :, start:stop]).expand(shape) for k in self._constants]
        return self._map(*operands, *constants).permute(0, 2, 3, 1)


def _uniform(bias_map: Tensor) -> bool:
    return bias_map.stride()[2:] == (0, 0) or bool((bias_map == bias_map[:, :, :1, :1]).all())


def joint_halves(*tensors: Tensor) -> Tensor:
    """Tensors side by side, `(N, C, H, W)` each: all first halves of the channels, then all second halves."""
    halves = [t.chunk(2, 1) for t in tensors]
    return torch.cat([first for first, _ in halves] + [second for _, second in halves], 1)


def unchanged(x: Tensor) -> Tensor:
    """The map that changes nothing."""
    return x


# As in `F`, which has them without `out`. `gelu` is not among them: on the CPU torch 2.13 writes wrong values where
# `out` is not contiguous.
elu = torch._C._nn.elu
glu = torch._C._nn.glu
silu = torch._C._nn.silu
sigmoid = torch.sigmoid
tanh = torch.tanh


def gate(value: Tensor, control: Tensor, plus: Tensor | None, out: Tensor | None) -> Tensor:
    """Return value · sigmoid(control), added to `plus`: faster than `glu` and a sum. `control` is overwritten."""
    control.sigmoid_()
    return torch.mul(value, control, out=out) if plus is None else torch.addcmul(plus, value, control, out=out)


def at_position(layer: nn.Module, *operands: Tensor) -> Tensor:
    """Return what a layer that works on each position by itself, such as a norm over channels, makes of one.

    Operands and result are `(N, C)`; the layer gets maps of one position, `(N, C, 1, 1)`.
    """
    made: Tensor = layer(*(operand[:, :, None, None] for operand in operands))
    return made[:, :, 0, 0]
