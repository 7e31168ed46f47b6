"""What follows the parameters: the moving average of the weights, and running statistics through a skipped step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hvdsl.runtime.layers import BatchNorm2d


class Ema:
    """`average <- average + (1 - rate) (parameter - average)` after every applied update, from the first on.

    No bias correction and no ramp; `rate` is rounded to float32, as in the VDVAE release. Buffers are copied, since
    running statistics belong to the weights that they were measured with.
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        keep = torch.tensor(rate, dtype=torch.float32)
        self._take: float = (1 - keep).item()
        self._model = model
        self.averages = {name: p.detach().clone() for name, p in model.named_parameters()}
        persistent = model.state_dict().keys()  # constants such as masks are no part of a checkpoint
        self.buffers = {name: b.detach().clone() for name, b in model.named_buffers() if name in persistent}

    @torch.no_grad()
    def update(self, applied: Tensor) -> None:
        """Move the averages towards the parameters as they are now, unless the step's update was left out.

        Buffers are those of before the step then, and so are their copies.

        Args:
            applied: Whether it was made, a scalar on the parameters' device.
        """
        averages: list[Tensor] = list(self.averages.values())
        parameters: list[Tensor] = list(self._model.parameters())
        take = {dtype: applied.to(dtype) * self._take for dtype in {average.dtype for average in averages}}
        if applied.device.type == "cpu" or len(take) > 1:
            torch._foreach_lerp_(averages, parameters, [take[average.dtype] for average in averages])
        else:  # where weights are tensors of their own, `lerp` of a list launches a kernel for each
            differences = torch._foreach_sub(parameters, averages)
            torch._foreach_mul_(differences, next(iter(take.values())))
            torch._foreach_add_(averages, differences)
        own = list(self._own_buffers())
        if own:
            torch._foreach_copy_([self.buffers[name] for name, _ in own], [buffer for _, buffer in own])

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again from the parameters as they are now."""
        for name, p in self._model.named_parameters():
            self.averages[name].copy_(p)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with its averages for weights; afterwards with its own again. Nothing is copied."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """Averages and buffers by the model's own names."""
        return self.averages | self.buffers

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict()`; names and shapes are those of the model."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])

    def _exchange(self) -> None:
        for name, p in self._model.named_parameters():
            p.data, self.averages[name] = self.averages[name], p.data
        for name, b in self._own_buffers():
            b.data, self.buffers[name] = self.buffers[name], b.data

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, b) for name, b in self._model.named_buffers() if name in self.buffers)


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
