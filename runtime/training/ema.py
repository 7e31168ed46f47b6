"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """`average <- rate average + (1 - rate) parameter` after every applied update, from the first on.

    No bias correction and no ramp; `rate` is rounded to float32, as in the VDVAE release. Buffers are copied, since
    running statistics belong to the weights that they were measured with.
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        keep = torch.tensor(rate, dtype=torch.float32)
        self._keep, self._take = keep.item(), (1 - keep).item()
        self._model = model
        self.averages = {name: p.detach().clone() for name, p in model.named_parameters()}
        persistent = model.state_dict().keys()  # constants such as masks are no part of a checkpoint
        self.buffers = {name: b.detach().clone() for name, b in model.named_buffers() if name in persistent}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the parameters as they are now."""
        averages = list(self.averages.values())
        torch._foreach_mul_(averages, self._keep)
        torch._foreach_add_(averages, list(self._model.parameters()), alpha=self._take)
        for name, b in self._own_buffers():
            self.buffers[name].copy_(b)

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
