"""Training and scoring a prior on stored codes: the mean length of a code, in nats, and what that makes of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.compiler.settings import Duration, Train
from hvdsl.errors import HvdslError
from hvdsl.runtime.batches import Batch
from hvdsl.runtime.codes.levels import CodesError, Level
from hvdsl.runtime.codes.store import CodeRows, columns
from hvdsl.runtime.distributed import World
from hvdsl.runtime.inference import chunks, inference
from hvdsl.runtime.priors.protocol import PriorModel, as_prior


@dataclass(frozen=True, slots=True, eq=False)
class CodePart:
    """What one forward pass of a prior takes: codes `(N, H, W)`, and what they are given, in the prior's order."""

    x: Tensor
    given: tuple[Tensor, ...]


class CodeLength:
    """The mean cross entropy of a code in nats, with the rate of an image that follows from it.

    Args:
        dims: Values of an image, which its bits are divided by.
    """

    def __init__(self, dims: int) -> None:
        self._dims = dims

    def __call__(self, model: nn.Module, part: CodePart, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        nats = F.cross_entropy(model(part.x, *part.given).float(), part.x)
        bits = nats.detach() * (part.x[0].numel() / math.log(2))
        return nats, {"nats_per_code": nats, "rate_bits_per_image": bits, "rate_bits_per_dim": bits / self._dims}


class PriorTask:
    """A prior on rows of codes, as `CodeStore.rows(names_of(prior))` gives them."""

    def __init__(self, prior: nn.Module, dims: int) -> None:
        self._prior, self._dims = as_prior(prior), dims

    def loss(self, steps: Callable[[Duration], int], world: World) -> CodeLength:
        return CodeLength(self._dims)

    def parts(self, model: nn.Module, batch: Batch, train: Train) -> list[CodePart]:
        rows = torch.from_numpy(batch.pixels).to(next(model.parameters()).device)
        return [_part(self._prior, piece) for piece in rows.chunk(train.accumulate)]


@dataclass(frozen=True, slots=True)
class CodeRate:
    """What codes cost under a prior: means over all images."""

    images: int
    nats_per_code: float
    rate_bits_per_image: float
    rate_bits_per_dim: float

    def as_metrics(self) -> dict[str, Any]:
        return asdict(self)


def score(prior: nn.Module, rows: CodeRows, dims: int, *, batch: int = 64, world: World | None = None) -> CodeRate:
    """Score every image's codes once, on all ranks together.

    Args:
        dims: Values of an image.

    Raises:
        HvdslError: There are no codes.
    """
    if len(rows) == 0:
        raise HvdslError(f"{rows.name} has no codes to score")
    world, model = world or World(), as_prior(prior)
    total = torch.zeros(1, dtype=torch.float64)
    with inference(prior) as device:
        for indices in chunks(world.share(len(rows)), batch):
            part = _part(model, torch.from_numpy(rows.batch(indices)).to(device))
            total += code_nats(model, part.x, part.given).sum().cpu()
        nats = world.sum(total.to(device) if world.size > 1 else total).item() / len(rows)
    bits = nats / math.log(2)
    return CodeRate(len(rows), nats / math.prod(model.CODES.grid), bits, bits / dims)


def code_nats(prior: PriorModel, codes: Tensor, given: Sequence[Tensor]) -> Tensor:
    """The length of each image's codes `(N, H, W)` under a prior, `(N,)` float64 nats."""
    logits = prior(codes, *given).double()
    return F.cross_entropy(logits, codes, reduction="none").flatten(1).sum(1)


def names_of(prior: nn.Module) -> list[str]:
    """The levels that a prior trains on: its own, then those that it is given."""
    model = as_prior(prior)
    return [model.CODES.name, *(map.name for map in model.GIVEN)]


def check_levels(prior: nn.Module, levels: Sequence[Level]) -> None:
    """Refuse a prior whose levels are not among `levels`.

    Raises:
        CodesError: One is absent, of another number of codes or grid, or has several codes at a position.
    """
    model = as_prior(prior)
    known = {level.name: level for level in levels}
    for map in (model.CODES, *model.GIVEN):
        level = known.get(map.name)
        if level is None:
            raise CodesError(
                f"the prior of `{model.CODES.name}` needs codes of `{map.name}`, and there are only those of "
                f"{', '.join(known)}"
            )
        if level.depth > 1:
            raise CodesError(
                f"`{level.name}` has {level.depth} codes at each position; a prior takes one: set `depth = 1`"
            )
        if level.code_map != map:
            raise CodesError(
                f"the prior of `{model.CODES.name}` takes {map.classes} codes on {map.grid} of `{map.name}`; these "
                f"are {level}"
            )


def _part(prior: PriorModel, rows: Tensor) -> CodePart:
    maps = (prior.CODES, *prior.GIVEN)
    places = columns([Level(map.name, map.classes, map.grid) for map in maps])
    own, *given = (rows[:, places[map.name]].reshape(len(rows), *map.grid) for map in maps)
    return CodePart(own, tuple(given))
