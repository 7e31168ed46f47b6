"""Codes of all levels from their priors, each level after those that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter

import torch
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.codes.levels import LABEL, CodesError
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.ground.seeds import derive_seed
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
    labels: Tensor | None = None,
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
        labels: Classes `(N,)`, where a prior is given them.
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
    if labels is not None:
        known[LABEL] = labels
    for name in order(priors):
        if name not in known:
            tell = None if progress is None else partial(progress, name)
            known[name] = _draw_level(
                priors[name], known, noise, cuts.get(name, Cut()), kept.get(name), schedules.get(name, "raster"), tell
            )
    return {name: codes for name, codes in known.items() if name != LABEL}


def _draw_level(
    prior: StepwisePrior,
    known: Mapping[str, Tensor],
    noise: SampleNoise,
    cut: Cut,
    kept: Kept | None,
    schedule: Schedule,
    progress: Callable[[Progress], None] | None,
) -> Tensor:
    """The codes of one level, `(N, H, W)`, given those that are `known`."""
    model = prior.model
    own, device = model.CODES, next(model.parameters()).device
    missing = [map.name for map in model.CONDITIONS if map.name not in known]
    if missing:
        raise CodesError(_absent(own.name, missing[0]))
    height, width = own.grid
    return draw_codes(
        prior,
        Sampled(noise, own.name, own.classes, (height, width), **asdict(cut)),
        [known[map.name].to(device) for map in model.CONDITIONS],
        batch=noise.batch,
        keep=None if kept is None else (kept.codes.to(device), kept.mask.to(device)),
        schedule=schedule,
        progress=progress,
    )


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
    touched = torch.nn.functional.adaptive_max_pool2d(drawn.float()[None, None], grid)[0, 0]
    return touched == 0


def _absent(name: str, missing: str) -> str:
    if missing == LABEL:
        return f"the prior of `{name}` is given classes: say which with `--label`"
    return f"the prior of `{name}` is given `{missing}`, which has no trained prior: train it, or `--fix` its codes"
