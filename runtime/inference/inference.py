"""What evaluation, sampling and reconstruction share."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.pixels import pixel_bits
from hvdsl.runtime.latents.conditions import (
    Rows,
    arguments_of,
    check_target,
    scored_of,
    target_images,
    target_of,
    weight_of,
)
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.protocol import HierarchicalVae, as_vae
from hvdsl.runtime.training.step.fast_paths import arithmetic


@contextmanager
def inference(model: nn.Module) -> Iterator[torch.device]:
    """The model in evaluation mode, without gradients and in exact float32; gives its device, and puts its mode back.

    What a model was trained in changes nothing of what it is measured by.
    """
    training = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            device = next(model.parameters()).device
            with arithmetic("fp32", device):
                yield device
    finally:
        model.train(training)


def model_batch(model: nn.Module, v: Tensor, noise: Noise, given: Mapping[str, Tensor]) -> ModelBatch:
    """What a pass of the model takes for raw pixel values `(N, C, H, W)`, and the fields beside them.

    Raises:
        HvdslError: A field is missing or does not fit, or the weights of an image are all 0.
    """
    own = {name: value.to(v.device) for name, value in given.items()}
    check_target(model, v, own)
    x, target = as_vae(model).input(v), target_of(model, v, own)
    weight = weight_of(model, own)
    return ModelBatch(x, target, noise, arguments_of(model, own), None if weight is None else weight.to(v))


def some(given: Mapping[str, Rows], indices: range) -> dict[str, Tensor]:
    """The fields of some of the images; where there are values of fewer, these in turn."""
    return {name: _some(value, indices) for name, value in given.items()}


def _some(value: Rows, indices: range) -> Tensor:
    if isinstance(value, Tensor) and len(value) >= indices.stop:
        return value[indices.start : indices.stop]
    return value[torch.arange(indices.start, indices.stop) % len(value)]


def chunks(items: range, size: int) -> Iterator[range]:
    """`items` in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class PixelMap(nn.Module):
    """From images in the target's units to raw pixel values, float: the inverse of a model's `target`.

    The map is inverted by its table (one entry per pixel value), linearly between entries, so that any monotone map
    will do; where it sends several values to one, as a 5-bit target does, the least of them is taken. The target of
    real numbers is a straight line.

    Raises:
        HvdslError: The target is of several images.
    """

    def __init__(self, vae: HierarchicalVae, data: Data, device: torch.device | str) -> None:
        super().__init__()
        images = target_images(cast("nn.Module", vae))
        if images:
            named = " and ".join(f"`{name}`" for name in images)
            raise HvdslError(
                f"the target of this spec is of several images ({named}), so that what the model says cannot be turned "
                "back into pixels: train, eval and score it"
            )
        channels = data.shape[0]
        if data.is_real:
            values = torch.tensor([0.0, 1.0], device=device)
        else:
            values = torch.arange(2 ** pixel_bits(data), dtype=torch.float32, device=device)
        table = _target(vae, values.view(-1, 1, 1, 1).expand(-1, channels, 1, 1)).flatten(1)
        self._real = data.is_real
        self.straight: list[bool] = []  # of each channel
        for c in range(channels):
            entry = table[:, c].float()
            levels, pixels = (entry, values) if data.is_real else _increasing(entry, values)
            self.straight.append(_is_straight(levels, pixels))
            self.register_buffer(f"levels_{c}", levels, persistent=False)
            self.register_buffer(f"values_{c}", pixels, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)`, in the target's units."""
        return torch.stack([self._channel(images[:, c], c) for c in range(images.shape[1])], 1)

    def _channel(self, y: Tensor, channel: int) -> Tensor:
        levels: Tensor = self.get_buffer(f"levels_{channel}")
        values: Tensor = self.get_buffer(f"values_{channel}")
        if self._real or (torch.compiler.is_exporting() and self.straight[channel]):
            start, end = levels[0].to(y), levels[-1].to(y)
            pixels = torch.div(y - start, end - start) * (values[-1] - values[0]) + values[0]
            return pixels if self._real else pixels.clamp(values[0], values[-1])
        return _interpolate(y.float(), levels, values)


def _is_straight(levels: Tensor, values: Tensor) -> bool:
    """Whether a rising table is a straight line, which graphs for other runtimes can say, and searching they cannot."""
    if levels.shape[0] < 2:
        return False
    line = levels[0] + (values - values[0]) / (values[-1] - values[0]) * (levels[-1] - levels[0])
    return bool((line - levels).abs().max() <= 1e-5 * (levels[-1] - levels[0]))


def to_pixels(vae: HierarchicalVae, images: Tensor, data: Data) -> Tensor:
    """Images in the target's units as raw pixel values, float; see `PixelMap`."""
    pixels: Tensor = PixelMap(vae, data, images.device)(images)
    return pixels


def _target(vae: HierarchicalVae, values: Tensor) -> Tensor:
    """The target at pixel values `(N, C, 1, 1)`; where it is of a field, at those of the field."""
    names = set(inspect.signature(vae.target).parameters)
    fields = {c.argument or c.name for c in scored_of(cast("nn.Module", vae))} & names
    target: Tensor = vae.target(values, **dict.fromkeys(fields, values))
    return target


def _increasing(levels: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """A table with its levels in rising order, each once, with the first of its values."""
    order = levels.argsort(stable=True)
    levels, values = levels[order], values[order]
    first = torch.ones_like(levels, dtype=torch.bool)
    first[1:] = levels[1:] > levels[:-1]
    return levels[first], values[first]


def _interpolate(y: Tensor, levels: Tensor, values: Tensor) -> Tensor:
    """The x at which the rising table `levels(values)` takes each `y`, held within the table."""
    if levels.shape[0] == 1:
        return values.expand_as(y)
    upper = torch.searchsorted(levels, y.contiguous()).clamp(1, levels.shape[0] - 1)
    low, high = levels[upper - 1], levels[upper]
    t = ((y - low) / (high - low)).clamp(0, 1)
    return values[upper - 1] + t * (values[upper] - values[upper - 1])
