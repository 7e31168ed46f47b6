"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
        weights = [take[average.dtype] for average in averages]
        torch._foreach_lerp_(averages, parameters, weights)
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
