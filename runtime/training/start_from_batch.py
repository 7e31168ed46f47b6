"""Data-dependent first values: gains and biases set so that a real batch leaves each layer with a stated deviation.

Weight normalisation takes the scale out of a layer's weights; Salimans & Kingma (2016, section 3) give it back by one
pass over a batch before training. It is a phase of its own, run once and noted in the checkpoint, and no hidden first
call of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.layers import Conv2d, ConvTranspose2d, Dense, WeightNorm
from hvdsl.runtime.training.distributed import World

Weighted = Conv2d | ConvTranspose2d | Dense

_EPS = 1e-5  # added to a deviation that is divided by: a channel that does not vary stays finite


def starts_from_batch(model: nn.Module) -> bool:
    """Whether any layer's weight norm asks for it: `norm = weight(start = from_batch(std))`."""
    return next(_layers(model), None) is not None


@torch.no_grad()
def start_from_batch(model: nn.Module, run: Callable[[], object], world: World | None = None) -> int:
    """Set gain and bias of each layer that asks for it; says how many there are.

    With t the output of the layer for a weight of norm 1 and no bias, m and s the mean and the deviation (with n - 1)
    of each of its channels over the batch of all processes, and S = s / std: the gain becomes 1 / (S + 1e-5) and the
    bias -m / (S + 1e-5). Each layer is set on what the ones before it then give. Running statistics of batch norms
    stay as they were.

    Args:
        run: one forward pass of the model over a real batch.

    Raises:
        HvdslError: the deviation of a channel is not finite, or the pass did not reach a layer.
    """
    phase = _Phase(dict(_layers(model)), world or World())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    hooks = [layer.register_forward_pre_hook(phase.strip) for layer in phase.waiting]
    hooks += [layer.register_forward_hook(phase.set) for layer in phase.waiting]
    count = len(phase.waiting)
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    if phase.waiting:
        name = next(iter(phase.waiting.values()))
        raise HvdslError(f"`{name}` starts from a batch, but inference never reaches it: give it `start = raw`")
    return count


def _layers(model: nn.Module) -> Iterator[tuple[Weighted, str]]:
    for name, module in model.named_modules():
        if isinstance(module, Weighted) and module.norm is not None and module.norm.start is not None:
            yield module, name


class _Phase:
    """The layers that are not set yet, by name, and the hooks that set each at its first call."""

    def __init__(self, waiting: dict[Weighted, str], world: World) -> None:
        self.waiting, self._world = waiting, world

    def strip(self, layer: Any, args: tuple[Any, ...]) -> None:
        if layer in self.waiting:
            layer.gain.fill_(0.0 if layer.norm.gain == "log" else 1.0)
            if layer.bias is not None:
                layer.bias.zero_()

    def set(self, layer: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if layer not in self.waiting:
            return None
        name, norm = self.waiting.pop(layer), layer.norm
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
        if layer.bias is not None:
            shift = -mean * factor
            layer.bias.copy_(shift)
        return (output.float() * factor[:, None, None] + shift[:, None, None]).to(output.dtype)

    def _moments(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over the batches of all processes, in float64."""
        values = output.double()
        n = self._world.sum(values.new_tensor(values.numel() / values.shape[1]))
        mean = self._world.sum(values.sum((0, 2, 3))) / n
        squares = self._world.sum((values - mean[:, None, None]).square().sum((0, 2, 3)))
        return mean.float(), (squares / (n - 1)).sqrt().float()


def _factor(norm: WeightNorm, deviation: Tensor) -> Tensor:
    """What the layer multiplies its unit weight with, `(C,)`."""
    if norm.start is None:
        raise AssertionError("only layers that start from a batch have hooks")
    return norm.scale / (deviation / norm.start + _EPS)
