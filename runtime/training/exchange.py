"""What several processes exchange gradients by: model and loss as one module, and its first passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from hvdsl.runtime.objective.elbo import ModelBatch


class StepInput(Protocol):
    """What one forward pass takes, of whatever kind of model; `x` has the batch as its first axis."""

    @property
    def x(self) -> Tensor: ...


P = TypeVar("P", bound=StepInput, default=ModelBatch)
P_contra = TypeVar("P_contra", bound=StepInput, contravariant=True, default=ModelBatch)


class Loss(Protocol[P_contra]):
    """The objective of a batch: a scalar to minimise, and the named terms (batch means) to report."""

    def __call__(self, model: nn.Module, part: P_contra, step: int, /) -> tuple[Tensor, Mapping[str, Tensor]]: ...


class Measured(nn.Module, Generic[P]):
    """Model and loss as one module, so that DDP sees everything between the parameters and the loss."""

    def __init__(self, model: nn.Module, loss: Loss[P]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, part: P, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._loss(self.model, part, step)


def rehearse(backward: Callable[[], None], device: torch.device) -> None:
    """Make two backward passes that count for nothing, and leave random generators as they were.

    DDP learns from the first what the objective reaches, from the second in which order, and lays out its exchange
    anew, which changes in which order gradients are summed. After both, the first step of a resumed run is computed as
    that step is in an unbroken one: bit for bit.
    """
    kind = device.type
    devices = [] if kind == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind), _strides_untold():
        for _ in range(2):
            backward()


@contextmanager
def _strides_untold() -> Iterator[None]:
    """Without what DDP says once, where it first meets gradients whose strides have another spelling.

    Those of 1x1 kernels in channels-last regions have. DDP copies gradients into its buckets whatever their strides
    are, and nobody can act on being told.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield
