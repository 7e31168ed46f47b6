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
from hvdsl.runtime.priors.protocol import Choose, StepwisePrior
from hvdsl.runtime.priors.sampling import Progress, Sampled, Schedule, check_schedule, draw_codes


@dataclass(frozen=True, slots=True)
class Cut:
    """How a level's codes are drawn: from softmax(logits / `temperature`), the `top_k` or nucleus `top_p` of it."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class KeptCodes:
    """Codes of one level, and where they stand, `(N, H, W)` bool; elsewhere codes are drawn."""

    codes: Tensor
    mask: Tensor


def sample_codes(
    priors: Mapping[str, StepwisePrior],
    indices: range,
    *,
    seed: int = 0,
    cuts: Mapping[str, Cut] | None = None,
    fixed: Mapping[str, Tensor] | None = None,
    kept: Mapping[str, KeptCodes] | None = None,
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
    for name in schedules.keys() & priors.keys():
        check_schedule(priors[name], schedules[name])
    noise = SampleNoise(derive_seed(seed, "code sampling noise"), indices)
    known = dict(fixed or {}) | dict(without if guidance == 0 else given)
    guide = None if guidance in (None, 0, 1) else _Guide(without, guidance or 0.0)
    for name in order(priors):
        if name not in known:
            tell = None if progress is None else partial(progress, name)
            level = _LevelDraw(cuts.get(name, Cut()), kept.get(name), schedules.get(name, "raster"), tell)
            known[name] = level.draw(priors[name], known, noise, guide)
    return {name: codes for name, codes in known.items() if name not in given}


@dataclass(frozen=True, slots=True, eq=False)
class _Guide:
    """Guidance by `weight` against the conditions `without` what may be left out."""

    without: Mapping[str, Tensor]
    weight: float

    def choose(self, choose: Choose) -> Choose:
        """Choose by mixed logits of a batch whose second half has no conditions; both halves take the same code."""

        def chosen(logits: Tensor, i: int, j: int) -> Tensor:
            return choose(mix(logits, self.weight), i, j).repeat(2)

        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class _LevelDraw:
    """How one level is drawn."""

    cut: Cut
    kept: KeptCodes | None
    schedule: Schedule
    progress: Callable[[Progress], None] | None

    def draw(
        self, prior: StepwisePrior, known: Mapping[str, Tensor], noise: SampleNoise, guide: _Guide | None
    ) -> Tensor:
        """The codes of the level, `(N, H, W)`, given what is `known`."""
        model = prior.model
        own, device = model.CODES, next(model.parameters()).device
        missing = [map.name for map in model.CONDITIONS if map.name not in known]
        if missing:
            raise CodesError(_absent(own.name, missing[0]))
        height, width = own.grid
        choose: Choose = Sampled(noise, own.name, own.classes, (height, width * own.depth), **asdict(self.cut))
        values = [known[map.name].to(device) for map in model.CONDITIONS]
        keep = None if self.kept is None else (self.kept.codes.to(device), self.kept.mask.to(device))
        batch = noise.batch
        if guide is not None and any(map.name in guide.without for map in model.CONDITIONS):
            others = [guide.without.get(map.name, known[map.name]).to(device) for map in model.CONDITIONS]
            values = [torch.cat(pair) for pair in zip(values, others, strict=True)]
            choose = guide.choose(choose)
            keep = None if keep is None else (torch.cat([keep[0]] * 2), torch.cat([keep[1]] * 2))
            batch *= 2
        codes = draw_codes(
            prior, choose, values, batch=batch, keep=keep, schedule=self.schedule, progress=self.progress
        )
        return codes[: noise.batch]


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
