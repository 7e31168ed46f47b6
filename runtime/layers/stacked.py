"""The weights of many layers as one matrix: what is done to all of them takes as many operations as for one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from hvdsl.runtime.layers.convolution import Weighted


def form_of(layer: Weighted) -> Hashable:
    """Layers that agree in it can be stacked: the shape of their weights, their norm, and whether they are masked."""
    return layer.weight.shape, layer.weight.dtype, layer.channel_axis, layer.norm, mask_of(layer) is None


def mask_of(layer: Weighted) -> Tensor | None:
    """What a layer's weight is masked by, if it is."""
    mask: Tensor | None = getattr(layer, "mask", None)
    return mask


def stacked_weights(layers: Sequence[Weighted]) -> Tensor:
    """The weights in use of layers of one form, one below the other, `(layers · C_out, rest)`.

    Each row is an output channel's, in the order in which its numbers lie in memory: see `weight_rows`.
    """
    axis, norm = layers[0].channel_axis, layers[0].norm
    rows = torch.cat([weight_rows(layer.weight, layer.weight, axis) for layer in layers])
    masks = [(mask, layer.weight) for layer in layers if (mask := mask_of(layer)) is not None]
    if masks:
        rows = rows * torch.cat([weight_rows(mask.expand_as(weight), weight, axis) for mask, weight in masks])
    gains = [layer.gain.reshape(-1, 1) for layer in layers if layer.gain is not None]
    return rows if norm is None else norm.weight(rows, torch.cat(gains), 0)


def weight_rows(values: Tensor, like: Tensor, channel_axis: int) -> Tensor:
    """Numbers of a weight as `(C_out, rest)`, in the order in which `like` lies in memory."""
    if _has_channels_last(like, channel_axis):
        return values.permute(0, 2, 3, 1).flatten(1)
    return values.movedim(channel_axis, 0).flatten(1)


def of_rows(rows: Tensor, like: Tensor, channel_axis: int) -> Tensor:
    """What `weight_rows` makes of a weight, back in the shape and layout of `like`."""
    if _has_channels_last(like, channel_axis):
        out, channels, height, width = like.shape
        return rows.view(out, height, width, channels).permute(0, 3, 1, 2)
    return rows.view(like.movedim(channel_axis, 0).shape).movedim(0, channel_axis)


def _has_channels_last(weight: Tensor, channel_axis: int) -> bool:
    return weight.dim() == 4 and channel_axis == 0 and weight.is_contiguous(memory_format=torch.channels_last)
