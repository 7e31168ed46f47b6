"""Functions of activations that can write into a buffer; `F` has them without `out`.

`gelu` is not among them: on the CPU torch 2.13 writes wrong values where `out` is not contiguous.
"""

import torch

elu = torch._C._nn.elu
glu = torch._C._nn.glu
silu = torch._C._nn.silu
sigmoid = torch.sigmoid
tanh = torch.tanh
