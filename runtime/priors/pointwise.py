"""Functions of activations that can write into a buffer: torch's own kernels, which `F` does not all offer with `out`."""

import torch

elu = torch._C._nn.elu
gelu = torch._C._nn.gelu
glu = torch._C._nn.glu
silu = torch._C._nn.silu
sigmoid = torch.sigmoid
tanh = torch.tanh
