"""A distribution whose sample went through a flow."""

from __future__ import annotations

import torch
from torch import Tensor

from hvdsl.runtime.distributions.base import Distribution
from hvdsl.runtime.ground.tensors import at_least_float32


class Flowed:
    """A distribution whose sample went through a flow: known at that one sample, as inference needs it.

    `start` is the sample before the flow and `z` the value after it. `log_determinants` are log |dz'/dz| of the
    flow's steps in each element; steps that keep volume have none (Kingma 2016, equation 10).
    """

    def __init__(self, base: Distribution, start: Tensor, z: Tensor, *log_determinants: Tensor) -> None:
        self.base, self.start, self.z, self.log_determinants = base, start, z, log_determinants

    @property
    def shape(self) -> torch.Size:
        return self.z.shape

    @property
    def log_q(self) -> Tensor:
        """log q(z) = log q_base(start) - Σ log |dz'/dz|, elementwise."""
        return sum((-at_least_float32(d) for d in self.log_determinants), self.base.log_prob(self.start))
