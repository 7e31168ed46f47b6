"""Weights of a step prepared together, instead of one by one where each layer runs: cast and normalised.

Autocast casts a layer's weight and its bias when the layer runs, and each of their gradients back; weight norm takes a
dozen operations for each layer. All are kernels of a microsecond, in deep models a quarter or more of all that a step
launches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.runtime.layers.convolution import Weighted
from hvdsl.runtime.layers.own import OwnRoles
from hvdsl.runtime.layers.stacked import form_of, mask_of, of_rows, stacked_weights

TOGETHER = 2**22
"""Elements: what is prepared at once waits for the last of its gradients, and so does their exchange in DDP."""

T = TypeVar("T")


class PreparedWeights:
    """What the convolutions and dense layers of a model multiply with and add in a step.

    Left to the layers is what is frozen, and what a use of a shared instance replaces by its own.

    Args:
        dtype: The low precision of products, to which all is cast; None casts nothing.
        normalise: Normalise all weights of one shape together. Values are those of the layers to rounding. Layers that
            are run again in the backward pass must find what they found before, so it cannot be had with that.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None, *, normalise: bool) -> None:
        self._dtype = dtype
        own = {(id(part.layer), role) for part in model.modules() if isinstance(part, OwnRoles) for role in part.roles}
        layers = [layer for layer in model.modules() if isinstance(layer, Weighted) and _trained(layer.weight)]
        replaced = {id(layer) for layer in layers if own & {(id(layer), "weight"), (id(layer), "gain")}}
        layers = [layer for layer in layers if id(layer) not in replaced]
        plain = [(layer, "weight") for layer in layers if layer.norm is None and mask_of(layer) is None]
        plain += [(layer, "bias") for layer in _biased(model) if (id(layer), "bias") not in own]
        place = {id(layer): i for i, layer in enumerate(model.modules())}
        plain.sort(key=lambda entry: place[id(entry[0])])  # as the backward pass meets them, the other way round
        normed = [layer for layer in layers if normalise and _can_be_stacked(layer)]
        self._plain = [] if dtype is None else _bounded(plain, lambda entry: entry[0].get_parameter(entry[1]), None)
        self._normed = _bounded(normed, lambda layer: layer.weight, form_of)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Layers find them in the place of their parameters meanwhile; where no gradient is wanted all is as it was.

        An instance's own attribute goes before a module's parameter, which stays where it is and the only one.
        """
        norms = [(layer, layer.norm) for group in self._normed for layer in group]
        try:
            if torch.is_grad_enabled():
                self._place()
            yield
        finally:
            for layer, role in (entry for group in self._plain for entry in group):
                layer.__dict__.pop(role, None)
            for layer, norm in norms:
                layer.norm = norm
                layer.__dict__.pop("weight", None)
                layer.__dict__.pop("mask", None)

    def _place(self) -> None:
        for group in self._plain:
            parameters = [layer.get_parameter(role) for layer, role in group]
            for (layer, role), low in zip(group, _cast(parameters, self._dtype or torch.float32), strict=True):
                layer.__dict__[role] = low
        for layers in self._normed:
            rows = stacked_weights(layers)
            rows = rows if self._dtype is None else rows.to(self._dtype)
            for layer, own in zip(layers, torch.split(rows, len(rows) // len(layers)), strict=True):
                weight = of_rows(own, layer.weight, layer.channel_axis)
                layer.__dict__.update(weight=weight, norm=None, mask=None)


def _trained(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and parameter.dtype == torch.float32


def _biased(model: nn.Module) -> Iterator[Weighted]:
    for layer in model.modules():
        if isinstance(layer, Weighted) and layer.bias is not None and _trained(layer.bias):
            yield layer


def _can_be_stacked(layer: Weighted) -> bool:
    return layer.norm is not None and layer.gain is not None and layer.gain.requires_grad


def _bounded(
    entries: list[T], parameter: Callable[[T], nn.Parameter], form: Callable[[T], Hashable] | None
) -> list[list[T]]:
    """Entries of one form in groups of at most so many elements, in their order."""
    groups: list[list[T]] = []
    open_groups: dict[Hashable, tuple[list[T], int]] = {}
    for entry in entries:
        key = None if form is None else form(entry)
        size = parameter(entry).numel()
        group, elements = open_groups.get(key, ([], TOGETHER))
        if elements + size > TOGETHER:
            group, elements = [], 0
            groups.append(group)
        group.append(entry)
        open_groups[key] = group, elements + size
    return groups


def _cast(parameters: list[nn.Parameter], dtype: torch.dtype) -> tuple[Tensor, ...]:
    low: tuple[Tensor, ...] = _Cast.apply(dtype, *parameters)  # type: ignore[no-untyped-call]  # torch's own
    return low


class _Cast(torch.autograd.Function):
    """Parameters in another type, and their gradients in the parameters' own."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *parameters: nn.Parameter) -> tuple[Tensor, ...]:
        ctx.parameters = parameters
        ctx.set_materialize_grads(False)
        low = [torch.empty_like(p, dtype=dtype) for p in parameters]
        torch._foreach_copy_(low, list(parameters))
        return tuple(low)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        wide = [None if g is None else torch.empty_like(p) for p, g in zip(ctx.parameters, gradients, strict=True)]
        torch._foreach_copy_([w for w in wide if w is not None], [g for g in gradients if g is not None])
        return None, *wide
