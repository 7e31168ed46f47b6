"""Running statistics of batch norms through a step that is skipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvdsl.runtime.layers import BatchNorm2d


class RunningStatistics:
    """The running means and variances of a model's batch norms, to be put back after a step that did not count.

    They move in the forward pass, before anyone can know that the step is skipped. One batch with a value that is not
    finite would otherwise leave them NaN for good, while the parameters go on.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
        self._now = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
        self._sizes = [len(buffer) for buffer in self._now]
        self._kept = torch.empty(0)

    def keep(self) -> None:
        """Remember them as they are."""
        if self._now:
            self._kept = torch.cat(self._now)

    def settle(self, applied: Tensor) -> None:
        """Put back what `keep` remembered, unless the step was `applied`: a scalar on their device."""
        if self._now:
            settled = torch.where(applied, torch.cat(self._now), self._kept)
            torch._foreach_copy_(self._now, list(torch.split(settled, self._sizes)))
