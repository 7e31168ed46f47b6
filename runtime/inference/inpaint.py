"""In-painting: what stands in a hole of an image, by the latents that explain the rest of it.

Each latent is written as z = m + s u with its prior's location and scale, so that a change of one group moves what the
priors below it expect. Where a latent's cell touches the hole, u begins at 0 and is optimised: the pixels outside of
the hole are to be likely, and u as a standard draw, which is the most probable u given what is seen. All other latents,
and those of bits and classes, are inferred from the image with its hole filled by the mean of what is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.distributions.location_scale import Laplace, LocationScale, Logistic, Normal
from hvdsl.runtime.ground.pixels import as_mean, as_stored, touched
from hvdsl.runtime.inference.edit import Abduction, Prediction
from hvdsl.runtime.inference.inference import model_batch, to_pixels
from hvdsl.runtime.latents import LatentGroup
from hvdsl.runtime.latents.conditions import arguments_of
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.step.fast_paths import arithmetic

_STANDARD: dict[str, type[LocationScale]] = {"normal": Normal, "laplace": Laplace, "logistic": Logistic}
RATE = 0.05  # of Adam, in units of the priors' scales


def inpaint(
    model: nn.Module, data: Data, pixels: Tensor, hole: Tensor, given: Mapping[str, Tensor], steps: int
) -> Tensor:
    """Raw pixel values `(N, C, H, W)`: the images, their holes filled.

    Args:
        pixels: Raw pixel values `(N, C, H, W)`; what stands in the hole is not looked at.
        hole: `(H, W)` bool, yes where pixels are painted in.
        given: All fields of the images.
        steps: Updates of the latents.

    Raises:
        HvdslError: The hole is empty or everything, the model has no latents of a location and a scale, or its
            likelihood is no density.
    """
    vae = as_vae(model)
    if not hole.any() or hole.all():
        raise HvdslError(f"the mask paints {'everything' if hole.any() else 'nothing'}: it is black where pixels stay")
    if not vae.likelihood.density:
        raise HvdslError("the likelihood is an error and no density, which says nothing of how likely a hole's rest is")
    with _differentiable(model) as device:
        v, hole = pixels.to(next(model.parameters())), hole.to(device)
        filled = torch.where(hole, as_stored(_seen_mean(v, hole), data), v)
        kept = _inferred(model, filled, given)
        optimised = _optimise(model, filled, hole, given, kept, steps)
        with torch.no_grad():
            params = _generate(model, given, _joined(model, kept, optimised, hole), len(v))
            means = as_mean(to_pixels(vae, vae.likelihood.mean(params), data), data)
        return torch.where(hole, means.to(v), v).cpu()


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[torch.device]:
    """The model in evaluation mode and exact float32, with gradients, which go to latents alone."""
    training, device = model.training, next(model.parameters()).device
    model.train(False)
    try:
        with torch.inference_mode(False), torch.enable_grad(), arithmetic("fp32", device):
            yield device
    finally:
        model.train(training)


def _seen_mean(v: Tensor, hole: Tensor) -> Tensor:
    """The mean of the pixels outside of the hole, of each image and channel."""
    seen = (~hole).to(v)
    return (v * seen).sum((2, 3), keepdim=True) / seen.sum()


def _inferred(model: nn.Module, filled: Tensor, given: Mapping[str, Tensor]) -> dict[int, tuple[Tensor, bool]]:
    """By group: u of the posterior's mean and yes; or, of what has no location and scale, z and no."""
    vae = as_vae(model)
    with torch.no_grad():
        walk = Abduction(vae.LATENTS, len(filled), filled.device)
        vae(vae.input(filled), walk, **_arguments(model, given, filled.device))
    if not any(standard for _, standard in walk.kept.values()):
        raise HvdslError("no latent of this model has a location and a scale: codes are painted in by `hvdsl sample`")
    return walk.kept


def _arguments(model: nn.Module, given: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return arguments_of(model, {name: value.to(device) for name, value in given.items()})


def _generate(
    model: nn.Module, given: Mapping[str, Tensor], kept: Mapping[int, tuple[Tensor, bool]], count: int
) -> Tensor:
    """The likelihood's parameters at these latents."""
    vae, device = as_vae(model), next(model.parameters()).device
    params: Tensor = vae(None, Prediction(vae.LATENTS, count, device, kept), **_arguments(model, given, device))
    return params


def _joined(
    model: nn.Module, kept: Mapping[int, tuple[Tensor, bool]], optimised: Mapping[int, Tensor], hole: Tensor
) -> dict[int, tuple[Tensor, bool]]:
    """What is optimised where a cell touches the hole, what was inferred elsewhere."""
    joined = dict(kept)
    for place, value in optimised.items():
        cells = touched(hole, as_vae(model).LATENTS[place].shape[1:])
        joined[place] = (torch.where(cells, value, kept[place][0]), True)
    return joined


def _optimise(
    model: nn.Module,
    filled: Tensor,
    hole: Tensor,
    given: Mapping[str, Tensor],
    kept: Mapping[int, tuple[Tensor, bool]],
    steps: int,
) -> dict[int, Tensor]:
    """u of each group after `steps` updates from 0: the mode given the pixels that are seen."""
    vae, count = as_vae(model), len(filled)
    noise = image_noise(model, vae.LATENTS, 0, range(count), device=filled.device)  # of what is taken as it is: unread
    batch = model_batch(model, filled, noise, given)
    seen = (~hole).to(filled).expand(count, 1, *hole.shape)
    weight = seen if batch.weight is None else seen * batch.weight
    free = {place: torch.zeros_like(u).requires_grad_() for place, (u, standard) in kept.items() if standard}
    adam = torch.optim.Adam(free.values(), lr=RATE)
    for _ in range(steps):
        params = _generate(model, given, _joined(model, kept, free, hole), count)
        distortion = -vae.likelihood.log_prob(params, batch.target, weight).sum()
        surprise = torch.stack([_surprise(vae.LATENTS[place], u) for place, u in free.items()]).sum()
        gradients = torch.autograd.grad(distortion + surprise, list(free.values()))
        for value, gradient in zip(free.values(), gradients, strict=True):
            value.grad = gradient
        adam.step()
    return {place: value.detach() for place, value in free.items()}


def _surprise(group: LatentGroup, u: Tensor) -> Tensor:
    """-log of the density of u under a standard draw of the group's family, in nats."""
    return -_STANDARD[group.family].standard(u.shape, u.device, u.dtype).log_prob(u).sum()
