"""The latent groups of a model, and where their values can come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, slots=True)
class FreeBits:
    """A group's own free bits: a rate under `nats` for each part (`per`) costs nothing; None: no part is free."""

    nats: float | None
    per: Literal["latent", "channel", "element"] = "latent"
    take_max: Literal["per_sample", "after_batch_mean"] = "after_batch_mean"
    when: Literal["training", "always"] = "always"


@dataclass(frozen=True, slots=True)
class LatentGroup:
    """One latent variable: its name in the spec, its path in the model, its family, the shape `(Z, H, W)` of a draw.

    One of classes or codes has `codes` different values at each depth, and `depth` codes at each position. `weight` is
    a factor on its rate in the objective, `free` its own free bits, and `temperature` that of its prior in sampling;
    the last two are None where the objective's and the spec's hold.
    """

    name: str
    path: str
    family: str
    shape: tuple[int, int, int]
    codes: int | None = None
    depth: int = 1
    weight: float = 1.0
    free: FreeBits | None = None
    temperature: float | None = None

    @property
    def quantized(self) -> bool:
        """Whether z is the nearest code of a quantizer, whose codes are all equally likely."""
        return self.family in ("codebook", "finite_scalar", "lookup_free")


class Source(Enum):
    """Where a group's z comes from.

    The mean of a group of bits or classes is their most probable value; that of a quantizer's uniform prior, the mean
    code vector.
    """

    POSTERIOR = "posterior sample"
    POSTERIOR_MEAN = "posterior mean"
    PRIOR = "prior sample"
    PRIOR_MEAN = "prior mean"


@dataclass(frozen=True, slots=True)
class CodeMap:
    """A discrete latent's codes, integers from 0 to `classes` - 1 on a `grid` (height, width); a label has no grid.

    In residual quantization there are `depth` of them at each position.
    """

    name: str
    classes: int
    grid: tuple[int, ...]
    depth: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image's codes: the grid, `(depth, H, W)` where a position has several."""
        return self.grid if self.depth == 1 else (self.depth, *self.grid)


@dataclass(frozen=True, slots=True)
class Condition:
    """What an image is known by besides its pixels: classes `(N,)`, numbers `(N, C)`, or an image `(N, C, H, W)`.

    Attributes:
        name: As the data call it.
        shape: (C, H, W) of the raw numbers; of classes (classes, 1, 1).
        classes: How many, where it is a class.
        drop: How often training leaves it out, so that it may be left out later: -1, or NaN.
        generative: Whether generation reads it; otherwise only inference does.
        argument: What `forward` calls it, where that is another word.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int | None = None
    drop: float = 0.0
    generative: bool = True
    argument: str | None = None

    @property
    def droppable(self) -> bool:
        """Whether the model knows what it is to be without."""
        return self.drop > 0

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of one image's value: `()` of a class, `(C,)` of numbers, `(C, H, W)` of an image."""
        if self.classes is not None:
            return ()
        return self.shape if self.shape[1:] != (1, 1) else self.shape[:1]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A source that is the value itself, `(N, Z, H, W)`, or a discrete group's codes, `(N, depth, H, W)` integers."""

    z: Tensor


Sources = Source | Given | Sequence[Source | Given]


def checked_sources(sources: Sources, groups: tuple[LatentGroup, ...], batch: int) -> tuple[Source | Given, ...]:
    """One source for each group. Raises ValueError where their number, or a given value's shape, does not fit."""
    if isinstance(sources, Source | Given):
        sources = [sources] * len(groups)
    if len(sources) != len(groups):
        raise ValueError(f"{len(sources)} sources are given; the model has {len(groups)} latent groups")
    for source, group in zip(sources, groups, strict=True):
        if not isinstance(source, Given):
            continue
        expected, what = (batch, *group.shape), "value"
        if group.codes is not None and not source.z.is_floating_point():
            expected, what = (batch, group.depth, *group.shape[1:]), "codes"
        if tuple(source.z.shape) != expected:
            verb = "are" if what == "codes" else "is"
            raise ValueError(
                f"the {what} given for group `{group.path}` {verb} {tuple(source.z.shape)}; expected {expected}"
            )
    return tuple(sources)


def checked_temperatures(temperature: float | Sequence[float], groups: tuple[LatentGroup, ...]) -> tuple[float, ...]:
    """One temperature for each group. Raises ValueError where their number does not fit, or one is no number >= 0."""
    if isinstance(temperature, Iterable):
        temperatures = tuple(float(t) for t in temperature)
    else:
        temperatures = (float(temperature),) * len(groups)
    if len(temperatures) != len(groups):
        raise ValueError(
            f"{len(temperatures)} temperatures are given; the model has {len(groups)} latent groups: "
            "give one, or one for each"
        )
    for t in temperatures:
        if not (math.isfinite(t) and t >= 0):
            raise ValueError(f"a temperature is a number of at least 0, not {t}")
    return temperatures


def default_temperatures(groups: Sequence[LatentGroup], elsewhere: float) -> tuple[float, ...]:
    """The temperature of each group where nobody asks for another: its own, or `elsewhere`."""
    return tuple(elsewhere if group.temperature is None else group.temperature for group in groups)
