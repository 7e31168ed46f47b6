"""What training would take of each device, before there is a tensor: memory, work of a step, checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from hvdsl.compiler.analysis.memory import Recomputation, StepMemory
from hvdsl.compiler.analysis.summary import summary
from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import optimise
from hvdsl.compiler.settings import Budget, Train
from hvdsl.errors import HvdslError, UsageError
from hvdsl.render.numbers import in_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from hvdsl.runtime.training.trainer import Trainer

FLOAT32 = 4
ESTIMATE = "an estimate, at -O1, without the workspaces of libraries"
RESERVE = 0.08
"""Share of a device's memory that its driver, libraries and the allocator's gaps take."""
_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_MOMENTS = {"adam": 2, "adamw": 2, "adamax": 2, "sgd": 1}
_PASSES = 3
"""Forward passes that a training step is worth: the backward pass is two."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Bytes of one process, work of one step.

    Attributes:
        parts: Bytes by what they are for.
        images: Of one backward pass of one process.
        macs: Multiply-accumulates of a step, over all processes.
        checkpoint: Bytes of a checkpoint.
        steps: Of the whole run; None where the spec says epochs or no end.
        epochs: The same in passes over the data, where the spec says that.
    """

    parts: dict[str, int]
    images: int
    macs: int
    checkpoint: int
    steps: int | None
    batch: int
    epochs: float | None = None

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    def to_json(self) -> dict[str, Any]:
        """What `info --memory --json` says."""
        return {"bytes": self.bytes, "images": self.images, "parts": self.parts}

    def lines(self, world_size: int, throughput: float | None) -> Iterator[str]:
        """What to show."""
        yield f"each of {world_size} processes: {in_bytes(self.bytes)}, {self.images} images at once"
        yield from self._by_purpose()
        yield f"a step: {self.macs * 2 / 1e12:.3g} TFLOP over all processes; a checkpoint: {in_bytes(self.checkpoint)}"
        if throughput is not None and self.steps is not None:
            hours = self.steps * self.batch / throughput / 3600
            yield f"{self.steps:,} steps of {self.batch} images at {throughput:g} images/s: {hours:,.1f} hours"
        elif throughput is not None and self.epochs is not None:
            hours = self.epochs * 100_000 / throughput / 3600
            each = f"{hours:,.1f} hours for every 100,000 images of the data"
            yield f"{self.epochs:g} epochs at {throughput:g} images/s: {each}"
        elif throughput is not None:
            yield f"the spec has no end: {throughput / self.batch * 3600:,.0f} steps an hour at {throughput:g} images/s"
        yield ESTIMATE

    def memory_lines(self) -> Iterator[str]:
        """What to show of the memory alone."""
        yield f"a training step of {self.images} images: {in_bytes(self.bytes)}"
        yield from self._by_purpose()
        yield ESTIMATE

    def _by_purpose(self) -> Iterator[str]:
        return (f"  {name:<34} {in_bytes(count):>12}" for name, count in self.parts.items() if count)


def make_plan(model: Model, world_size: int, level: int = 1) -> TrainingPlan:
    """Return what training a model with its spec's settings takes, at an optimisation level.

    Raises:
        HvdslError: There is no `train` section, or the batch does not divide among the processes.
    """
    train = model.settings.train
    if model.is_of_codes:
        raise UsageError(f"`{model.settings.model}` has priors alone, and estimates are of models of images")
    if train is None:
        raise HvdslError(f"`{model.settings.model}` has no `train` section: add one, or give its values with `--set`")
    if train.batch % (world_size * train.accumulate):
        raise HvdslError(
            f"a batch of {train.batch} does not divide among {world_size} processes of {train.accumulate} parts each: "
            f"take a multiple of {world_size * train.accumulate}"
        )
    return _plan(optimise(model, level), train, world_size)


def _plan(model: Model, train: Train, world_size: int) -> TrainingPlan:
    """The peak is where activations are complete and gradients are still to come, or where these are.

    A penalty of the weights takes its gradients when those of the batch are there.
    """
    counts, steps = summary(model.graph), step_memory(model.graph, train)
    weights, images = counts.parameters * FLOAT32, train.batch // (world_size * train.accumulate)
    moments = _MOMENTS[train.optimizer.kind] * weights
    averages = 0 if train.ema is None else weights
    groups = (group for group in model.graph.latents if not LATENT_FAMILIES[group.family].quantized)
    noise = sum(prod(group.shape) for group in groups) * FLOAT32
    drawn = images * model.settings.objective.chunk  # samples of all images in one pass
    again = recomputation(steps, train, drawn)
    activations = again.memory.of(drawn) + noise * drawn + prod(model.settings.data.shape) * FLOAT32 * images
    # DDP exchanges gradients in buckets of its own, which stay; the parts of a step add theirs to those before.
    held = weights * (2 if world_size > 1 else 1 if train.accumulate > 1 else 0)
    late = weights * (2 if model.settings.objective.spectral else 1)
    parts = {
        "weights": weights + counts.buffers * FLOAT32,
        f"moments of {train.optimizer.kind}": moments,
        "averaged weights": averages,
        "gradients that stay": held,
        "activations, noise and images": activations,
        "gradients beyond these": max(0, late - held - activations),
    }
    macs = counts.macs * train.batch * _PASSES + again.macs * train.batch
    return TrainingPlan(parts, images, macs, weights + moments + averages, train.steps, train.batch, train.epochs)


def step_memory(graph: Graph, train: Train) -> StepMemory:
    """What predicts the memory of a step of this graph, which is as it is emitted, at the spec's precision."""
    return StepMemory(graph, low=train.precision in ("bf16", "fp16"))


def recompute_within(trainer: Trainer, graph: Graph, console: Console | None) -> None:
    """Have training run recipes again for the budget of bytes that its spec gives, if it gives one, and say how many.

    Args:
        graph: The model's, as it is emitted.

    Raises:
        HvdslError: Nothing stays within the budget.
    """
    from hvdsl.workflows.calls import say

    train = trainer.train
    if not isinstance(train.checkpointing, Budget):
        return
    images = train.batch // (trainer.world.size * train.accumulate) * trainer.settings.objective.chunk
    steps = step_memory(graph, train)
    again = recomputation(steps, train, images)
    trainer.optimization.recompute(again.paths)
    taken = f"activations take {in_bytes(again.memory.of(images))} of {in_bytes(train.checkpointing.bytes)}"
    say(console, f"checkpointing: {len(again.paths)} of {len(steps.segments)} recipes are run again, {taken}")


def recomputation(steps: StepMemory, train: Train, images: int) -> Recomputation:
    """The recipe instances that `checkpointing` has run again in a backward pass of so many images.

    Raises:
        HvdslError: Nothing stays within the budget; it says what would.
    """
    match train.checkpointing:
        case "none":
            return steps.again(())
        case "group":
            return steps.again(steps.segments)
        case Budget(bytes=budget):
            within = steps.within(budget, images)
            if within is None:
                least = steps.again(steps.segments).memory.of(images)
                raise HvdslError(
                    f"`checkpointing = budget({in_bytes(budget)})`: with every recipe run again, the activations of "
                    f"{images} images take {in_bytes(least)}: give as much, or split the batch with `accumulate`"
                )
            return within


def check_fits(model: Model, plan: TrainingPlan, world_size: int, device_memory: int) -> None:
    """Refuse what a device has no room for.

    Raises:
        HvdslError: It says what would fit.
    """
    room = int(device_memory * (1 - RESERVE))
    if plan.bytes <= room:
        return
    ways = list(_ways(model, world_size, room))
    remedy = f"; this would fit: {', or '.join(ways)}" if ways else "; no setting of the step alone makes it fit"
    raise HvdslError(
        f"does not fit: a process needs {in_bytes(plan.bytes)}, and of {in_bytes(device_memory)} about "
        f"{in_bytes(room)} can be used{remedy}"
    )


def _ways(model: Model, world_size: int, room: int) -> Iterator[str]:
    train, model = model.settings.train, optimise(model)
    assert train is not None  # there is a plan of it
    each = train.batch // world_size
    for checkpointing in ("none", "group"):
        for accumulate in (n for n in range(1, each + 1) if each % n == 0):
            changed = train.model_copy(update={"accumulate": accumulate, "checkpointing": checkpointing})
            if _plan(model, changed, world_size).bytes <= room:
                words = [] if accumulate == train.accumulate else [f"--set train.accumulate={accumulate}"]
                words += [] if checkpointing == train.checkpointing else [f"--set train.checkpointing={checkpointing}"]
                yield " ".join(words)
                break


def parse_size(text: str) -> int:
    """Read a number of bytes, as `80GiB`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS or float(match[1]) == 0:
        raise UsageError(f"--device-memory {text}: write a size, as 80GiB")
    return ceil(float(match[1]) * _UNITS[match[2].upper()])
