"""The batch-norm penalty: Σ max |γ| over all batch normalisations (NVAE, Vahdat & Kautz 2020, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvdsl.runtime.layers import BatchNorm2d
from hvdsl.runtime.layers.own import OwnRoles


class BatchNormPenalty:
    """Σ max |γ|, γ being the gains of a batch normalisation: the largest factor that it puts on any channel."""

    def __init__(self, model: nn.Module) -> None:
        self._gains = [module.weight for module in model.modules() if isinstance(module, BatchNorm2d)]
        self._gains += [
            module.get_parameter("weight")
            for module in model.modules()
            if isinstance(module, OwnRoles) and isinstance(module.layer, BatchNorm2d) and "weight" in module.roles
        ]

    def __len__(self) -> int:
        return len(self._gains)

    def __call__(self) -> Tensor:
        """The sum, a scalar without unit. Where several |γ| are the largest they share the gradient."""
        if not self._gains:
            return torch.zeros(())
        return torch.stack([torch.linalg.vector_norm(gain, torch.inf) for gain in self._gains]).sum()
