"""Data-dependent first values: gains and biases set so that a real batch leaves each layer with a stated deviation.

Weight normalisation takes the scale out of a layer's weights; Salimans & Kingma (2016, section 3) give it back by one
pass over a batch before training. It is a phase of its own, run once and noted in the checkpoint, and no hidden first
call of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.layers import Conv2d, ConvTranspose2d, Dense, WeightNorm
from hvdsl.runtime.layers.own import OwnRoles

Weighted = Conv2d | ConvTranspose2d | Dense

_EPS = 1e-5  # added to a deviation that is divided by, as published
_CONSTANT = 1e-6  # of a channel's largest value: a deviation below that is rounding


def starts_from_batch(model: nn.Module) -> bool:
    """Whether any layer's weight norm asks for it: `norm = weight(start = from_batch(std))`."""
    return next(_starting(model), None) is not None


@torch.no_grad()
def start_from_batch(model: nn.Module, run: Callable[[], object], world: World | None = None) -> int:
    """Set gain and bias of each layer that asks for it and that a pass reaches; says how many those are.

    With t the output of the layer for a weight of norm 1 and no bias, m and s the mean and the deviation (with n - 1)
    of each of its channels over the batch of all processes, and S = s / std: the gain becomes 1 / (S + 1e-5) and the
    bias -m / (S + 1e-5). Each layer is set on what the ones before it then give. A channel that does not vary over the
    batch, such as one of a learned map, has no scale to take out and is set as for s = 1: a gain of 1e5 would make the
    first update fatal. A layer out of reach, such as the last of an encoder above which nothing is tapped, keeps the
    gain that it was initialised with: nothing depends on it. Running statistics of batch norms stay as they were.

    Args:
        run: one forward pass of the model over a real batch.

    Raises:
        HvdslError: the deviation of a channel is not finite.
    """
    phase = _Phase(_starting(model), world or World())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    hooks = [layer.register_forward_pre_hook(phase.strip) for layer in phase.layers]
    hooks += [layer.register_forward_hook(phase.set) for layer in phase.layers]
    count = len(phase.waiting)
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return count - len(phase.waiting)


def _starting(model: nn.Module) -> Iterator[tuple[Weighted, nn.Module, str]]:
    """Layers that ask for it, with what holds their gain: themselves, or a use with a gain of its own; and its name."""
    for name, module in model.named_modules():
        layer = module.layer if isinstance(module, OwnRoles) and "gain" in module.roles else module
        if isinstance(layer, Weighted) and layer.norm is not None and layer.norm.start is not None:
            yield layer, module, name


class _Phase:
    """The gains that are not set yet, with the names of their layers, and the hooks that set each at its first use."""

    def __init__(self, starting: Iterable[tuple[Weighted, nn.Module, str]], world: World) -> None:
        starts = list(starting)
        self.layers = list(dict.fromkeys(layer for layer, _, _ in starts))
        self.waiting = {id(holder.gain): name for _, holder, name in starts}
        self._biases = {id(bias) for _, holder, _ in starts if (bias := getattr(holder, "bias", None)) is not None}
        self._world = world

    def strip(self, layer: Any, args: tuple[Any, ...]) -> None:
        if id(layer.gain) in self.waiting:
            layer.gain.fill_(0.0 if layer.norm.gain == "log" else 1.0)
            if id(layer.bias) in self._biases:
                layer.bias.zero_()

    def set(self, layer: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if id(layer.gain) not in self.waiting:
            return None
        name, norm = self.waiting.pop(id(layer.gain)), layer.norm
        mean, deviation = self._moments(output)
        if not deviation.isfinite().all():
            raise HvdslError(
                f"`{name}` starts from a batch, but on the first batch a channel of its output has no finite "
                "deviation: use a larger batch, or look for values that are not finite in the data"
            )
        factor = _factor(norm, deviation)
        gain = factor.log() if norm.gain == "log" else factor
        layer.gain.copy_(gain.view_as(layer.gain))
        shift = torch.zeros_like(mean)
        if id(layer.bias) in self._biases:
            shift = -mean * factor
            layer.bias.copy_(shift)
            self._biases.remove(id(layer.bias))
        elif layer.bias is not None:  # set before, at another use of the layer
            shift = layer.bias * (1 - factor)
        return (output.float() * factor[:, None, None] + shift[:, None, None]).to(output.dtype)

    def _moments(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over the batches of all processes, in float64."""
        values = output.double()
        n = self._world.sum(values.new_tensor(values.numel() / values.shape[1]))
        mean = self._world.sum(values.sum((0, 2, 3))) / n
        squares = self._world.sum((values - mean[:, None, None]).square().sum((0, 2, 3)))
        deviation = (squares / (n - 1)).sqrt()
        constant = deviation <= _CONSTANT * mean.abs()
        return mean.float(), torch.where(constant, 1.0, deviation).float()


def _factor(norm: WeightNorm, deviation: Tensor) -> Tensor:
    """What the layer multiplies its unit weight with, `(C,)`."""
    if norm.start is None:
        raise AssertionError("only layers that start from a batch have hooks")
    return norm.scale / (deviation / norm.start + _EPS)
