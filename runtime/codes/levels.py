"""The levels of a discrete hierarchy; images as codes that fit them, and codes as images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.inference.inference import chunks, inference, some, to_pixels
from hvdsl.runtime.latents import Given, Source, Traversal
from hvdsl.runtime.latents.conditions import arguments_of
from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.protocol import as_vae

LABEL = "label"
"""The name under which classes stand beside codes."""


class CodesError(HvdslError):
    """Codes that are missing, damaged, or not this model's."""


@dataclass(frozen=True, slots=True)
class Level:
    """A discrete latent: codes 0 … `classes` - 1 on a `grid` (height, width), `depth` of them at each position.

    The class of an image is a level too, without a grid; if it is `optional`, images may be without one.
    """

    name: str
    classes: int
    grid: tuple[int, int] | tuple[()]
    depth: int = 1
    optional: bool = False

    @property
    def stored_numbers(self) -> int:
        """How many different numbers are stored: that of an image without a class is one more."""
        return self.classes + self.optional

    def as_json(self) -> dict[str, Any]:
        """As manifests and files of codes have it."""
        values = {"name": self.name, "classes": self.classes, "grid": self.grid, "depth": self.depth}
        return values | ({"optional": True} if self.optional else {})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image's codes: `(H, W)`, `(depth, H, W)` where a position has several, `()` of a label."""
        return self.grid if self.depth == 1 else (self.depth, *self.grid)

    @property
    def size(self) -> int:
        """Codes per image."""
        return math.prod(self.shape)

    @property
    def code_map(self) -> CodeMap:
        """The level as a prior speaks of it."""
        return CodeMap(self.name, self.classes, self.grid, self.depth)

    def __str__(self) -> str:
        return f"{self.classes} codes on {'x'.join(map(str, self.shape)) or 'no grid'}"


def code_levels(model: nn.Module) -> tuple[Level, ...]:
    """The levels of a model, in order of generation.

    A latent is named as in the spec, or by its path where the spec draws it in several places.

    Raises:
        HvdslError: The model has a latent that is not discrete.
    """
    groups = as_vae(model).LATENTS
    times = Counter(group.name for group in groups)
    levels = []
    for group in groups:
        if group.codes is None:
            raise HvdslError(
                f"`{group.name}` is a continuous latent: codes, and priors over them, are for models whose latents are "
                "all discrete"
            )
        name = group.name if times[group.name] == 1 else group.path
        levels.append(Level(name, group.codes, group.shape[1:], group.depth))
    return tuple(levels)


def check_fit(
    codes: Mapping[str, Tensor] | Mapping[str, NDArray[Any]],
    levels: Sequence[Level],
    source: str,
    whose: str = "this model has",
) -> None:
    """Refuse codes `(N, …)` by level that are not those of `levels`; the same N everywhere.

    Args:
        whose: Who says what `levels` are.

    Raises:
        CodesError: A level is absent, of another grid, or has codes that this model has not.
    """
    count = None
    for level in levels:
        if level.name not in codes:
            raise CodesError(f"{source} has no codes of `{level.name}`; it holds {', '.join(codes) or 'nothing'}")
        own = codes[level.name]
        if not _are_whole_numbers(own):
            raise CodesError(f"the codes of `{level.name}` in {source} are {own.dtype}, not whole numbers")
        if tuple(own.shape[1:]) != level.shape or own.ndim == 0:
            raise CodesError(
                f"the codes of `{level.name}` in {source} are {tuple(own.shape)}; {whose} (N, "
                f"{', '.join(map(str, level.shape))}): they are of another model"
            )
        if count is not None and len(own) != count:
            raise CodesError(f"{source} has {count} images at one level and {len(own)} at `{level.name}`")
        count = len(own)
        if count and not (int(own.min()) >= 0 and int(own.max()) < level.classes):
            raise CodesError(
                f"the codes of `{level.name}` in {source} run from {int(own.min())} to {int(own.max())}; {whose} "
                f"{level.classes}, numbered from 0: they are of another model"
            )
    if count == 0:
        raise CodesError(f"{source} has no images")


def _are_whole_numbers(values: Tensor | NDArray[Any]) -> bool:
    if isinstance(values, Tensor):
        return not (values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool)
    return values.dtype.kind in "iu"


def infer_codes(
    model: nn.Module, pixels: Tensor, given: Mapping[str, Tensor] = MappingProxyType({})
) -> tuple[dict[str, Tensor], Tensor]:
    """The codes of images, by level, and their reconstruction, from one pass in evaluation mode.

    The codes are the nearest of a quantizer, the most probable of a categorical posterior.

    Args:
        pixels: Raw pixel values `(N, C, H, W)`.
        given: The fields beside them.

    Returns:
        Codes `(N, H, W)` (`(N, depth, H, W)` in residual quantization), int64, and the likelihood's parameters.

    Raises:
        HvdslError: A latent is not discrete.
    """
    levels, vae = code_levels(model), as_vae(model)
    with inference(model) as device:
        latents = Traversal(vae.LATENTS, len(pixels), sources=Source.POSTERIOR_MEAN, device=device)
        own = {name: value.to(device) for name, value in arguments_of(model, given).items()}
        params = vae(vae.input(pixels.float().to(device)), latents, **own)
    codes = {}
    for level, outcome in zip(levels, latents.outcomes, strict=True):
        assert outcome.codes is not None  # an inferred discrete group has codes
        codes[level.name] = outcome.codes.reshape(-1, *level.shape)
    return codes, params


def decode_codes(
    model: nn.Module,
    data: Data,
    codes: Mapping[str, Tensor],
    *,
    batch: int = 64,
    given: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor:
    """The images of codes, raw pixel values `(N, C, H, W)` on the CPU: the likelihood's mean.

    The codes of an image give what `reconstruct` gives for the image, bit for bit, on one device and in equal batches.

    Raises:
        CodesError: The codes are not this model's.
    """
    levels, vae = code_levels(model), as_vae(model)
    check_fit(codes, levels, "what is to be decoded")
    images = []
    with inference(model) as device:
        for indices in chunks(range(len(codes[levels[0].name])), batch):
            sources = [
                Given(codes[level.name][indices.start : indices.stop].long().reshape(-1, level.depth, *level.grid))
                for level in levels
            ]
            latents = Traversal(vae.LATENTS, len(indices), sources=sources, device=device)
            own = {name: value.to(device) for name, value in arguments_of(model, some(given, indices)).items()}
            images.append(to_pixels(vae, vae.likelihood.mean(vae(None, latents, **own)), data).cpu())
    return torch.cat(images)
