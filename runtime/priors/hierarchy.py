"""Codes of all levels from their priors, each level after those that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

import torch
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.codes.levels import LABEL, CodesError
from hvdsl.runtime.distributions.base import mix
from hvdsl.runtime.ground.noise import SampleNoise, derive_seed
from hvdsl.runtime.ground.pixels import touched
from hvdsl.runtime.priors.buffers import Choose
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import Progress, Sampled, Schedule, check_schedule, draw_codes


@dataclass(frozen=True, slots=True)
class Cut:
    """How a level's codes are drawn: from softmax(logits / `temperature`), the `top_k` or nucleus `top_p` of it."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Codes `(N, H, W)` of one level, and where they stand, `(N, H, W)` bool; elsewhere codes are drawn."""

    codes: Tensor
    mask: Tensor


def sample_codes(
    priors: Mapping[str, StepwisePrior],
    indices: range,
    *,
    seed: int = 0,
    cuts: Mapping[str, Cut] | None = None,
    fixed: Mapping[str, Tensor] | None = None,
    kept: Mapping[str, Kept] | None = None,
    given: Mapping[str, Tensor] = MappingProxyType({}),
    without: Mapping[str, Tensor] = MappingProxyType({}),
    guidance: float | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    progress: Callable[[str, Progress], None] | None = None,
) -> dict[str, Tensor]:
    """Draw the codes of every prior's level, `(N, H, W)` on the priors' device.

    The codes of image i depend on (seed, i) alone, never on which images are drawn together.

    Args:
        priors: By level.
        indices: The images' numbers.
        cuts: How each level is drawn; those not named plainly.
        fixed: Codes `(N, H, W)` of levels that are not drawn.
        kept: Levels that are partly given: in-painting.
        given: Classes `(N,)`, numbers `(N, C)` or `(N, C, H, W)` by name, where priors are given them.
        without: The same with everything left out that may be, under guidance.
        guidance: w of classifier-free guidance: logits are u + w (c - u) of those without conditions u and with them c.
        schedules: In what order each level's codes are drawn, as `draw_codes` says; those not named in raster order.
        progress: Called with the level and how far it is.

    Raises:
        HvdslError: A level is given what is neither drawn nor fixed, or codes or labels do not fit a prior, or one
            with attention is asked for a wavefront.
    """
    cuts, kept, schedules = cuts or {}, kept or {}, schedules or {}
    for name, schedule in schedules.items():
        if name in priors:
            check_schedule(priors[name], schedule)
    noise = SampleNoise(derive_seed(seed, "code sampling noise"), indices)
    known: dict[str, Tensor] = dict(fixed or {})
    known |= without if guidance == 0 else given
    bare = {} if guidance in (None, 0, 1) else without
    for name in order(priors):
        if name not in known:
            tell = None if progress is None else partial(progress, name)
            known[name] = _draw_level(
                priors[name],
                known,
                noise,
                cuts.get(name, Cut()),
                kept.get(name),
                schedules.get(name, "raster"),
                tell,
                bare,
                1.0 if guidance is None else guidance,
            )
    return {name: codes for name, codes in known.items() if name not in given}


def _draw_level(
    prior: StepwisePrior,
    known: Mapping[str, Tensor],
    noise: SampleNoise,
    cut: Cut,
    kept: Kept | None,
    schedule: Schedule,
    progress: Callable[[Progress], None] | None,
    bare: Mapping[str, Tensor],
    guidance: float,
) -> Tensor:
    """The codes of one level, `(N, H, W)`, given what is `known`, guided against what it is `bare` of conditions."""
    model = prior.model
    own, device = model.CODES, next(model.parameters()).device
    missing = [map.name for map in model.CONDITIONS if map.name not in known]
    if missing:
        raise CodesError(_absent(own.name, missing[0]))
    height, width = own.grid
    choose: Choose = Sampled(noise, own.name, own.classes, (height, width), **asdict(cut))
    values = [known[map.name].to(device) for map in model.CONDITIONS]
    keep = None if kept is None else (kept.codes.to(device), kept.mask.to(device))
    doubled = any(map.name in bare for map in model.CONDITIONS)
    if doubled:
        others = [bare.get(map.name, known[map.name]).to(device) for map in model.CONDITIONS]
        values = [torch.cat(pair) for pair in zip(values, others, strict=True)]
        choose = _guided(choose, guidance)
        keep = None if keep is None else (keep[0].repeat(2, 1, 1), keep[1].repeat(2, 1, 1))
    codes = draw_codes(
        prior,
        choose,
        values,
        batch=noise.batch * (2 if doubled else 1),
        keep=keep,
        schedule=schedule,
        progress=progress,
    )
    return codes[: noise.batch]


def _guided(choose: Choose, guidance: float) -> Choose:
    """Choose by mixed logits of a batch whose second half has no conditions; both halves take the same code."""

    def chosen(logits: Tensor, i: int, j: int) -> Tensor:
        return choose(mix(logits, guidance), i, j).repeat(2)

    return chosen


def order(priors: Mapping[str, StepwisePrior]) -> Sequence[str]:
    """The levels of priors, each after those that it is given.

    Raises:
        HvdslError: They are given each other in a circle.
    """
    graph = {name: [m.name for m in p.model.CONDITIONS if m.name in priors] for name, p in priors.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise HvdslError(f"the priors are given each other in a circle: {', '.join(error.args[1])}") from error


def coarse_mask(drawn: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where codes stand, `(H', W')` bool, from where pixels are drawn anew, `(H, W)` bool.

    A code stands if none of the pixels under its cell is drawn anew. Pixels beyond the cell that it also sees are left
    to the levels above and the decoder.
    """
    return ~touched(drawn, grid)


def _absent(name: str, missing: str) -> str:
    if missing == LABEL:
        return f"the prior of `{name}` is given classes: say which with `--label`"
    return f"the prior of `{name}` is given `{missing}`, which has no trained prior: train it, or `--fix` its codes"
