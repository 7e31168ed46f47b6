"""Running statistics of batch norms through a step that is skipped."""

from __future__ import annotations

import torch
from torch import nn

from hvdsl.runtime.layers import BatchNorm2d


class RunningStatistics:
    """The running means and variances of a model's batch norms, to be put back after a step that did not count.

    They move in the forward pass, before anyone can know that the step is skipped. One batch with a value that is not
    finite would otherwise leave them NaN for good, while the parameters go on.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
        self._now = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
        self._kept = [torch.empty_like(buffer) for buffer in self._now]

    def keep(self) -> None:
        """Remember them as they are."""
        if self._now:
            torch._foreach_copy_(self._kept, self._now)

    def restore(self) -> None:
        """Put back what `keep` remembered."""
        if self._now:
            torch._foreach_copy_(self._now, self._kept)
