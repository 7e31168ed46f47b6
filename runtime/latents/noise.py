"""The noise of a model's latent groups, by the scheme that the model was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from hvdsl.runtime.ground.noise import SCHEME, JointNoise, Kind, NoiseLayout, SampleNoise, latent_stream
from hvdsl.runtime.latents.group import LatentGroup


def image_noise(
    model: nn.Module,
    groups: Sequence[LatentGroup],
    seed: int,
    indices: Sequence[int],
    step: int = 0,
    device: torch.device | str = "cpu",
) -> SampleNoise:
    """What the images of these global numbers draw from, in a step or sample of that number.

    Args:
        groups: The model's latent groups, in order of generation.
        device: Where scheme 2 draws; scheme 1 draws on the CPU.
    """
    if noise_scheme(model) == 1:
        return SampleNoise(seed, indices, step)
    return JointNoise(seed, indices, step, layout=noise_layout(tuple(groups)), device=device)


def noise_scheme(model: nn.Module) -> int:
    """The scheme that a model draws by: that of its run, or the newest."""
    return int(getattr(model, "noise_scheme", SCHEME))


def set_noise_scheme(model: nn.Module, scheme: int) -> None:
    """Let a model draw as its run did."""
    model.noise_scheme = scheme  # type: ignore[assignment]  # a number beside the module's tensors


@lru_cache(maxsize=8)
def noise_layout(groups: tuple[LatentGroup, ...]) -> NoiseLayout:
    """Each group's numbers after those of the group before it, among the normal ones or among the uniform ones."""
    return NoiseLayout.of((latent_stream(i), *_draw(group)) for i, group in enumerate(groups))


def _draw(group: LatentGroup) -> tuple[Kind, int]:
    if group.quantized:
        return "uniform", group.depth * math.prod(group.shape[1:])
    return "normal" if group.family == "normal" else "uniform", math.prod(group.shape)
