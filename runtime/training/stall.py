"""What to say, and to keep, of a run that has stalled: what went bad first, and where to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.training.optimization import StepResult

MOST = 2000
"""Tensors that a report lists at most, in the order in which they were computed."""


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What a tensor holds: the largest magnitude among its finite values, and how many are not finite."""

    name: str
    shape: tuple[int, ...]
    largest: float
    not_finite: int

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> TensorReport:
        values = tensor.detach().float()
        finite = values.isfinite()
        kept = torch.where(finite, values, torch.zeros_like(values)).abs()
        return cls(name, tuple(tensor.shape), float(kept.max()) if kept.numel() else 0.0, int((~finite).sum()))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A forward and backward pass on the batch that the last step was skipped for.

    Attributes:
        first: What is not finite and was computed before all others that are not; None where all is.
        images: Names of the batch's images.
    """

    first: str | None
    loss: float
    outputs: Sequence[TensorReport]
    parameters: Sequence[TensorReport]
    gradients: Sequence[TensorReport]
    images: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(model: nn.Module, loss: Callable[[], Tensor], images: Sequence[str]) -> Diagnosis:
    """Compute a loss again and look at every tensor on the way.

    Args:
        loss: The objective of the batch; it goes through `model`.
    """
    parameters = [TensorReport.of(name, p) for name, p in model.named_parameters()]
    outputs: list[TensorReport] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for i, tensor in enumerate(_tensors(output)):
                if len(outputs) < MOST:
                    outputs.append(TensorReport.of(f"{name}[{i}]" if i else name, tensor))

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        value = loss()
        torch.autograd.backward(value)
        gradients = [TensorReport.of(n, p.grad) for n, p in model.named_parameters() if p.grad is not None]
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    first = next((f"the parameter `{t.name}`" for t in parameters if t.not_finite), None)
    number = float(value.detach())
    first = first or next((f"the output of `{t.name}`" for t in outputs if t.not_finite), None)
    if first is None and not math.isfinite(number):
        first = "the loss, of finite outputs: a likelihood or a rate"
    first = first or next((f"the gradient of `{t.name}`" for t in reversed(gradients) if t.not_finite), None)
    return Diagnosis(first, number, outputs, parameters, gradients, images)


def at_initialisation(result: StepResult, groups: Sequence[str]) -> str:
    """What to say where not even the first update could be made, and which group does it."""
    rates = result.terms.get(names.RATE_PER_GROUP_NATS_PER_IMAGE, [])
    culprit = ""
    if rates and len(rates) == len(groups):
        worst = max(range(len(rates)), key=lambda i: rates[i] if math.isfinite(rates[i]) else math.inf)
        culprit = (
            f", and group {groups[worst]} has the largest rate ({rates[worst]:.3g} nats per image): initialise what "
            "gives its posterior and prior smaller"
        )
    else:
        culprit = ": initialise the last layers of what is added to a stream smaller"
    return (
        f"training diverges at initialisation: no update was ever made, the first loss is {result.loss:.4g}"
        f"{culprit}, with `init = scaled(0.1)` or `init = zeros` in its last convolution"
    )


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from _tensors(item)
    elif isinstance(output, list | tuple):
        for item in output:
            yield from _tensors(item)
