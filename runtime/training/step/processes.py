"""Training as several processes: what exchanges gradients, batch norm over all of them, and whether they stay equal."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import TypeVar

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.layers import BatchNorm2d, BatchNormSiLU
from hvdsl.runtime.layers.norms import DegenerateBatchError
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.training.folder.checkpoint import Tensors


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


def synchronise_batch_norm(model: nn.Module) -> int:
    """Let every batch norm, while it trains, normalise by statistics over all processes; says how many there are.

    The gradient flows through the exchange, so that one process on a batch and two on its halves train alike. All
    processes must run the model the same number of times.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for norm in norms:
        norm.forward = _synchronised(norm, norm.forward)  # type: ignore[method-assign]  # of this instance alone
    return len(norms)


def _synchronised(norm: BatchNorm2d, alone: Any) -> Any:
    @functools.wraps(alone)
    def forward(x: Tensor) -> Tensor:
        if not norm.training:
            result: Tensor = alone(x)
            return result
        y = _normalise(norm, x)
        return F.silu(y) if isinstance(norm, BatchNormSiLU) else y

    return forward


def _normalise(norm: BatchNorm2d, x: Tensor) -> Tensor:
    """(x - μ) / √(σ² + eps) · weight + bias; moves the running statistics, with σ² n / (n - 1)."""
    wide = x if x.dtype == torch.float64 else x.float()
    own = x.numel() // x.shape[1]
    sums = _sum(torch.cat((wide.sum((0, 2, 3)), wide.new_full((1,), own))))
    count = sums[-1].detach()
    if own * dist.get_world_size() == 1:
        raise DegenerateBatchError(
            "batch normalisation over all processes has one value per channel to take a variance of: "
            "train with at least two images per pass, or use another norm at this resolution"
        )
    mean = sums[:-1] / count
    centred = wide - _per_channel(mean)
    variance = _sum(centred.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var), norm.momentum)
    y = centred * _per_channel(norm.weight * torch.rsqrt(variance + norm.eps)) + _per_channel(norm.bias)
    return y.to(x.dtype)


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]  # torch's own
    return total


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


class _Sum(torch.autograd.Function):
    """The sum over all processes; what depends on it anywhere sends its gradient everywhere."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_replicas(parts: Mapping[str, Tensors], world: World, step: int) -> None:
    """Compare sums over the bits of every tensor of a checkpoint between all processes.

    Raises:
        HvdslError: One differs; it names the tensor and the rank.
    """
    if world.size == 1:
        return
    by_name = {f"{part}: {name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    names = sorted(by_name)  # an optimizer that was loaded has its own order
    sums = torch.stack([_checksum(by_name[name]) for name in names]).tolist()
    first, *others = (json.loads(text) for text in world.texts(json.dumps(sums)))
    for rank, other in enumerate(others, 1):
        for name, here, there in zip(names, first, other, strict=True):
            if here != there:
                raise HvdslError(
                    f"rank {rank} does not hold the same numbers as rank 0 after {step} steps: `{name}` differs; go on "
                    "from the last checkpoint with `--resume`, and look at that machine"
                )


def _checksum(tensor: Tensor) -> Tensor:
    values = tensor.detach().contiguous().reshape(-1)
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    return values.view(_INTEGERS[values.element_size()]).sum(dtype=torch.int64).cpu()
