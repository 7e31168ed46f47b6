"""What a traversal is given for its groups, one for all or one for each, and whether it fits them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from hvdsl.runtime.latents.group import Given, LatentGroup, Source, Sources


def checked_sources(sources: Sources, groups: tuple[LatentGroup, ...], batch: int) -> tuple[Source | Given, ...]:
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
