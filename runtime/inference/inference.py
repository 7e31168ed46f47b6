"""What evaluation, sampling and reconstruction share."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.pixels import pixel_bits
from hvdsl.runtime.latents.conditions import arguments_of, scored_of, target_of, weight_of
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.protocol import HierarchicalVae, as_vae


@contextmanager
def inference(model: nn.Module) -> Iterator[torch.device]:
    """The model in evaluation mode and without gradients; gives its device, and puts its mode back."""
    training = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(training)


def model_batch(model: nn.Module, v: Tensor, noise: Noise, given: Mapping[str, Tensor]) -> ModelBatch:
    """What a pass of the model takes for raw pixel values `(N, C, H, W)`, and the fields beside them.

    Raises:
        HvdslError: A field is missing or does not fit, or the weights of an image are all 0.
    """
    own = {name: value.to(v.device) for name, value in given.items()}
    x, target = as_vae(model).input(v), target_of(model, v, own)
    weight = weight_of(model, own)
    return ModelBatch(x, target, noise, arguments_of(model, own), None if weight is None else weight.to(v))


def some(given: Mapping[str, Tensor], indices: range) -> dict[str, Tensor]:
    """The fields of some of the images."""
    return {name: value[indices.start : indices.stop] for name, value in given.items()}


def chunks(items: range, size: int) -> Iterator[range]:
    """`items` in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def to_pixels(vae: HierarchicalVae, images: Tensor, data: Data) -> Tensor:
    """Images in the target's units as raw pixel values, float: the inverse of the model's `target`.

    The map is inverted by its table (one entry per pixel value), linearly between entries, so that any monotone map
    will do; where it sends several values to one, as a 5-bit target does, the least of them is taken. The target of
    real numbers is a straight line.
    """
    if data.is_real:
        ends = torch.tensor([0.0, 1.0], device=images.device).view(-1, 1, 1, 1).expand(-1, images.shape[1], 1, 1)
        targets = _target(vae, ends).to(images)
        start, end = targets[0], targets[1]
        return (images - start) / (end - start)
    channels = images.shape[1]
    values = torch.arange(2 ** pixel_bits(data), dtype=torch.float32, device=images.device)
    table = _target(vae, values.view(-1, 1, 1, 1).expand(-1, channels, 1, 1)).flatten(1)
    pixels = [_interpolate(images[:, c].float(), table[:, c].float(), values) for c in range(channels)]
    return torch.stack(pixels, 1)


def _target(vae: HierarchicalVae, values: Tensor) -> Tensor:
    """The target at pixel values `(N, C, 1, 1)`; where it is of a field, at those of the field."""
    names = set(inspect.signature(vae.target).parameters)
    fields = {c.argument or c.name for c in scored_of(cast("nn.Module", vae))} & names
    target: Tensor = vae.target(values, **dict.fromkeys(fields, values))
    return target


def _interpolate(y: Tensor, levels: Tensor, values: Tensor) -> Tensor:
    """The x at which the table `levels(values)` takes each `y`, held within the table."""
    order = levels.argsort(stable=True)
    levels, values = levels[order], values[order]
    first = torch.ones_like(levels, dtype=torch.bool)
    first[1:] = levels[1:] > levels[:-1]
    levels, values = levels[first], values[first]
    if len(levels) == 1:
        return values.expand_as(y)
    upper = torch.searchsorted(levels, y.contiguous()).clamp(1, len(levels) - 1)
    low, high = levels[upper - 1], levels[upper]
    t = ((y - low) / (high - low)).clamp(0, 1)
    return values[upper - 1] + t * (values[upper] - values[upper - 1])
