"""Functions of activations that can write into a buffer; `F` has them without `out`.

`gelu` is not among them: on the CPU torch 2.13 writes wrong values where `out` is not contiguous.
"""

import torch
from torch import Tensor, nn

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
