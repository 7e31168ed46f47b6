"""Images between two images, by their latents."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import UsageError
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.inference.inference import inference
from hvdsl.runtime.latents import Given, LatentGroup, Source, Traversal
from hvdsl.runtime.latents.conditions import arguments_of
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.protocol import as_vae
from hvdsl.workflows.conditions import GivenValue, known_values
from hvdsl.workflows.groups import group_names, select_groups
from hvdsl.workflows.images import ImagesLike, as_pixels
from hvdsl.workflows.latents import decode, given_value, infer
from hvdsl.workflows.open import Opened
from hvdsl.workflows.runs import class_names

Curve = Literal["spherical", "linear"]
PARALLEL = 1e-4  # radians: below, a great circle is a straight line


def interpolate_images(
    opened: Opened,
    first: ImagesLike,
    second: ImagesLike | None,
    groups: str | None,
    steps: int,
    curve: Curve,
    batch: int,
    seed: int,
    given: Mapping[str, GivenValue] | None,
) -> Tensor:
    """Return images on the way from one image to another, pixels `(steps, C, H, W)`; see `Trained.interpolate`.

    Raises:
        HvdslError: the images do not fit, are more than one each, or as `interpolate`.
    """
    ends = [images for images in (first, second) if images is not None]
    values = known_values(opened.module, given, len(ends), opened.data, class_names(opened.run))
    parts = [
        opened.images(images, {name: value[i : i + 1] for name, value in values.items()})
        for i, images in enumerate(ends)
    ]
    if any(len(pixels) != 1 for pixels, _ in parts):
        count = sum(len(pixels) for pixels, _ in parts)
        raise UsageError(f"the way is from one image to one other, and here are {count}")
    images = interpolate(
        opened.module,
        opened.data,
        torch.cat([pixels for pixels, _ in parts]),
        groups=groups,
        steps=steps,
        curve=curve,
        batch=batch,
        seed=seed,
        fields={name: torch.cat([fields[name] for _, fields in parts]) for name in parts[0][1]},
    )
    return as_pixels(images, opened.data, mean=True)


def interpolate(
    module: nn.Module,
    data: Data,
    pixels: Tensor,
    *,
    groups: str | None = None,
    steps: int = 8,
    curve: Curve = "spherical",
    batch: int = 64,
    seed: int = 0,
    fields: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor:
    """Return `steps` images from the first of one or two images to the other, raw pixel values `(steps, C, H, W)`.

    Args:
        fields: what the one or two images are conditioned on.

    Raises:
        UsageError: there are fewer than 2 steps, no groups for one image, or all latents are codes.
    """
    own = as_vae(module).LATENTS
    if steps < 2:
        raise UsageError(f"{steps} images are no way from one to another: ask for 2 steps or more")
    if all(group.codes is not None for group in own):
        raise UsageError("all latents of this model are codes, and nothing lies between two codes")
    if groups is None and len(pixels) == 1:
        raise UsageError("one image has no other to go to: give a second one, or say with `--groups` what to vary")
    places = list(range(len(own))) if groups is None else select_groups(own, groups, "--groups")
    latents = infer(module, pixels, sample=False, seed=seed, batch=2, given=fields)
    starts = [latents[place].value[:1] for place in range(len(own))]
    ends = [latents[place].value[1:] for place in range(len(own))] if len(pixels) > 1 else None
    ends = ends or _drawn(module, starts, places, seed, {name: value[:1] for name, value in fields.items()})
    fractions = torch.linspace(0, 1, steps).tolist()
    values = {}
    for place, (name, group) in enumerate(zip(group_names(own), own, strict=True)):
        start, end = starts[place], ends[place] if place in places else starts[place]
        values[name] = torch.cat([_between(group, start, end, t, curve) for t in fractions])
    given = {name: torch.cat([_mixed(value[:1], value[-1:], t) for t in fractions]) for name, value in fields.items()}
    return decode(module, data, values, temperature=1.0, seed=seed, batch=batch, given=given)


def _mixed(start: Tensor, end: Tensor, t: float) -> Tensor:
    """A condition at a fraction `t` of the way; of classes, and where an end has none, that of the nearer end."""
    known = start.is_floating_point() and bool((start.isfinite() & end.isfinite()).all())
    if t in (0.0, 1.0) or not known:
        return start if t < 0.5 else end
    return torch.lerp(start, end, t)


def _drawn(
    module: nn.Module, values: list[Tensor], places: list[int], seed: int, given: Mapping[str, Tensor]
) -> list[Tensor]:
    """The same latents of one image with the groups at `places` drawn from their priors."""
    vae = as_vae(module)
    groups = zip(vae.LATENTS, values, strict=True)
    sources = [Source.PRIOR if i in places else Given(given_value(*pair)) for i, pair in enumerate(groups)]
    with inference(module) as device:
        noise = image_noise(module, vae.LATENTS, derive_seed(seed, "sampling noise"), range(1), device=device)
        walk = Traversal(vae.LATENTS, 1, noise, sources, device=device)
        vae(None, walk, **{name: value.to(device) for name, value in arguments_of(module, given).items()})
        return [z.cpu() if value.is_floating_point() else value for z, value in zip(walk.z, values, strict=True)]


def _between(group: LatentGroup, start: Tensor, end: Tensor, t: float, curve: Curve) -> Tensor:
    """The value at a fraction `t` of the way; of what has no values between, the nearer end."""
    if group.family not in ("normal", "laplace", "logistic"):
        return start if t < 0.5 else end
    if t in (0.0, 1.0):
        return end if t else start
    return slerp(start, end, t) if curve == "spherical" else torch.lerp(start, end, t)


def slerp(start: Tensor, end: Tensor, t: float) -> Tensor:
    """Return the point at a fraction `t` of the great circle from one vector to another (Shoemake 1985).

    Of vectors of a high-dimensional normal it keeps the length, which a straight line does not (White 2016). Where they
    are nearly parallel, or one is 0, the straight line is taken.
    """
    a, b = start.flatten().double(), end.flatten().double()
    lengths = a.norm() * b.norm()
    angle = torch.arccos((a @ b / lengths).clamp(-1, 1)) if lengths > 0 else torch.zeros(())
    if not PARALLEL < angle.item() < torch.pi - PARALLEL:
        return torch.lerp(start, end, t)
    point = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    return point.to(start.dtype).view_as(start)
