"""A prior as the second stage of a model: trained on stored codes for their cross entropy, and scored on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError
from hvdsl.runtime.codes.levels import CodesError, Level
from hvdsl.runtime.codes.store import CodeRows
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.inference import chunks, inference, some
from hvdsl.runtime.latents.conditions import NONE, as_tensors, fields_of
from hvdsl.runtime.latents.group import Condition
from hvdsl.runtime.priors.protocol import PriorModel, as_prior, code_conditions, field_names
from hvdsl.runtime.training.batches import PixelBatch, read_with_fields
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.step.transfer import on_device


@dataclass(frozen=True, slots=True)
class CodeBatch:
    """What one forward pass of a prior takes.

    Attributes:
        x: Codes of the prior's latent, `(N, H, W)`, or `(N, depth, H, W)`.
        given: What it is given, as `PriorModel.CONDITIONS` says.
    """

    x: Tensor
    given: tuple[Tensor, ...] = ()


class CodeObjective:
    """The mean over batch and positions of -log p(code | earlier codes, given), for `Optimization` to minimise.

    The terms are `nats_per_code`, `bits_per_map`, and `accuracy`, the share of codes that are the most probable ones.
    """

    def __call__(self, model: nn.Module, part: CodeBatch, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        logits = _by_code(model(part.x, *part.given), part.x)
        loss = F.cross_entropy(logits.float(), part.x)  # softmax in float32 whatever the precision around it
        positions = math.prod(part.x.shape[1:])
        terms = {
            names.NATS_PER_CODE: loss.detach(),
            names.BITS_PER_MAP: loss.detach() * (positions / math.log(2)),
            names.ACCURACY: (logits.detach().argmax(1) == part.x).float().mean(),
        }
        return loss, terms


def nats(model: nn.Module, codes: Tensor, *given: Tensor) -> Tensor:
    """-log p(codes) of each map, `(N,)` nats: what the codes of an image cost under the prior."""
    logits = _by_code(model(codes, *given), codes)
    return F.cross_entropy(logits.float(), codes, reduction="none").flatten(1).sum(1)


def _by_code(logits: Tensor, codes: Tensor) -> Tensor:
    """Logits `(N, K, …)` over codes `(N, …)`, of which a prior over several depths gives those of each side by side."""
    if codes.dim() == 3:
        return logits
    return logits.view(len(logits), codes.shape[1], -1, *codes.shape[2:]).transpose(1, 2)


class CodeRate:
    """The objective of codes, with the rate per dimension of the image that follows from it, where there is one."""

    def __init__(self, dims: int | None) -> None:
        self._objective, self._dims = CodeObjective(), dims

    def __call__(self, model: nn.Module, part: CodeBatch, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss, terms = self._objective(model, part, step)
        if self._dims is None:
            return loss, terms
        return loss, {**terms, names.RATE_BITS_PER_DIM: terms[names.BITS_PER_MAP] / self._dims}


class PriorTask:
    """A prior on rows of codes, as `CodeStore.rows(names_of(prior))` gives them.

    Args:
        dims: Values of an image; None where there are codes alone.
        drop: How often training leaves out each field that the prior is given, by name.
    """

    def __init__(self, prior: nn.Module, dims: int | None, drop: Mapping[str, float] = MappingProxyType({})) -> None:
        self._prior, self._dims = as_prior(prior), dims
        self._drop = {name: drop[name] for name in field_names(self._prior) if drop.get(name)}

    def optimization(self, model: nn.Module, train: Train, clock: Clock, world: World) -> Optimization[CodeBatch]:
        """What makes the steps."""
        return Optimization(model, train, CodeRate(self._dims), clock, world)

    def parts(self, model: nn.Module, batch: PixelBatch, train: Train) -> list[CodeBatch]:
        """Codes as the prior takes them."""
        rows, fields = self._left_out(batch, train) if self._drop else (batch.pixels, batch.given)
        device = next(model.parameters()).device
        count = len(rows) // train.accumulate
        values = {name: on_device(np.asarray(value, np.float32), device) for name, value in fields.items()}
        return [
            _part(self._prior, piece, some(values, range(i * count, (i + 1) * count)))
            for i, piece in enumerate(on_device(rows, device).chunk(train.accumulate))
        ]

    def _left_out(self, batch: PixelBatch, train: Train) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Rows and fields with some fields left out: a function of (seed, step, place in the whole batch)."""
        rows, fields = batch.pixels.copy(), {name: value.copy() for name, value in batch.given.items()}
        seed = derive_seed(train.seed, "given.drop")
        chance = np.random.default_rng((seed, batch.step)).random(batch.first + len(rows))[batch.first :]
        column = math.prod(self._prior.CODES.shape)
        for map in self._prior.CONDITIONS:
            out = chance < self._drop.get(map.name, 0.0)
            if isinstance(map, Condition):
                fields[map.name][out] = np.nan
                continue
            if not map.grid:
                rows[out, column] = NONE
            column += math.prod(map.shape)
        return rows, fields


@dataclass(frozen=True, slots=True)
class Score:
    """What codes cost under a prior: means over all images; per dimension of these, where there are any."""

    images: int
    nats_per_code: float
    bits_per_map: float
    rate_bits_per_dim: float | None

    def as_metrics(self) -> dict[str, Any]:
        """For the metrics log: every name carries its unit."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def score_codes(
    prior: nn.Module, rows: CodeRows, dims: int | None, *, batch: int = 64, world: World | None = None
) -> Score:
    """Score every image's codes once, on all ranks together.

    Args:
        dims: Values of an image; None where there are codes alone.

    Raises:
        HvdslError: There are no codes.
    """
    if len(rows) == 0:
        raise HvdslError(f"{rows.name} has no codes to score")
    world, model = world or World(), as_prior(prior)
    total = torch.zeros(1, dtype=torch.float64)
    with inference(prior) as device:
        for indices in chunks(world.share(len(rows)), batch):
            codes, fields = read_with_fields(rows, indices, fields_of(prior))
            values = {name: value.to(device) for name, value in as_tensors(fields).items()}
            part = _part(model, torch.from_numpy(codes).to(device), values)
            total += nats(prior, part.x, *part.given).double().sum().cpu()
        mean = world.sum(total.to(device) if world.size > 1 else total).item() / len(rows)
    bits = mean / math.log(2)
    return Score(len(rows), mean / math.prod(model.CODES.shape), bits, None if dims is None else bits / dims)


def names_of(prior: nn.Module) -> list[str]:
    """The levels that a prior trains on: its own, then those that it is given."""
    model = as_prior(prior)
    return [model.CODES.name, *(map.name for map in code_conditions(model))]


def check_levels(prior: nn.Module, levels: Sequence[Level]) -> None:
    """Refuse a prior whose levels are not among `levels`.

    Raises:
        CodesError: One is absent, or of another number of codes, grid or depth.
    """
    model = as_prior(prior)
    known = {level.name: level for level in levels}
    for map in (model.CODES, *code_conditions(model)):
        level = known.get(map.name)
        if level is None:
            raise CodesError(
                f"the prior of `{model.CODES.name}` needs codes of `{map.name}`, and there are only those of "
                f"{', '.join(known)}"
            )
        if level.code_map != map:
            raise CodesError(
                f"the prior of `{model.CODES.name}` takes {map.classes} codes on {map.shape} of `{map.name}`; these "
                f"are {level}"
            )


def _part(prior: PriorModel, rows: Tensor, fields: Mapping[str, Tensor]) -> CodeBatch:
    maps = (prior.CODES, *code_conditions(prior))
    parts = torch.split(rows, [math.prod(map.shape) for map in maps], 1)
    values = {map.name: part.reshape(len(rows), *map.shape) for part, map in zip(parts, maps, strict=True)}
    values |= fields
    return CodeBatch(values[prior.CODES.name], tuple(values[map.name] for map in prior.CONDITIONS))
