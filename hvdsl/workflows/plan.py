"""What training would take of each device, before there is a tensor: memory, work of a step, checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

from hvdsl.compiler.analysis.cost import memory
from hvdsl.compiler.analysis.summary import summary
from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError, UsageError

FLOAT32 = 4
RESERVE = 0.08
"""Share of a device's memory that its driver, libraries and the allocator's gaps take."""
_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_MOMENTS = {"adam": 2, "adamw": 2, "adamax": 2, "sgd": 1}
_PASSES = 3
"""Forward passes that a training step is worth: the backward pass is two."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes of one process, work of one step.

    Attributes:
        parts: Bytes by what they are for.
        images: Of one backward pass of one process.
        macs: Multiply-accumulates of a step, over all processes.
        checkpoint: Bytes of a checkpoint.
        steps: Of the whole run; None where the spec says epochs or no end.
    """

    parts: dict[str, int]
    images: int
    macs: int
    checkpoint: int
    steps: int | None
    batch: int

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    def lines(self, world_size: int, throughput: float | None) -> Iterator[str]:
        """What to show."""
        yield f"each of {world_size} processes: {size(self.bytes)}, {self.images} images at once"
        for name, count in self.parts.items():
            yield f"  {name:<34} {size(count):>12}"
        yield f"a step: {self.macs * 2 / 1e12:.3g} TFLOP over all processes; a checkpoint: {size(self.checkpoint)}"
        if throughput is not None and self.steps is not None:
            hours = self.steps * self.batch / throughput / 3600
            yield f"{self.steps:,} steps of {self.batch} images at {throughput:g} images/s: {hours:,.1f} hours"
        yield "an estimate in float32, without what the likelihood keeps; mixed precision takes less"


def make_plan(model: Model, world_size: int) -> Plan:
    """Return what training a model with its spec's settings takes.

    Raises:
        HvdslError: There is no `train` section, or the batch does not divide among the processes.
    """
    train = model.settings.train
    if train is None:
        raise HvdslError(f"`{model.settings.model}` has no `train` section: add one, or give its values with `--set`")
    if train.batch % (world_size * train.accumulate):
        raise HvdslError(
            f"a batch of {train.batch} does not divide among {world_size} processes of {train.accumulate} parts each: "
            f"take a multiple of {world_size * train.accumulate}"
        )
    return _plan(model, train, world_size)


def _plan(model: Model, train: Train, world_size: int) -> Plan:
    counts, kept = summary(model.graph), memory(model.graph)
    weights, images = counts.parameters * FLOAT32, train.batch // (world_size * train.accumulate)
    moments = _MOMENTS[train.optimizer.kind] * weights
    averages = 0 if train.ema is None else weights
    noise = sum(prod(group.shape) for group in model.graph.latents) * FLOAT32
    activations = kept.checkpointed if train.checkpointing == "group" else kept.peak
    recomputed = 1 if train.checkpointing == "group" else 0
    parts = {
        "weights": weights,
        "gradients": weights * (2 if world_size > 1 else 1),  # DDP exchanges them in buckets of their own
        f"moments of {train.optimizer.kind}": moments,
        "averaged weights": averages,
        "activations": activations * images,
        "noise and images": (noise + prod(model.settings.data.shape) * FLOAT32) * images,
    }
    macs = counts.macs * train.batch * (_PASSES + recomputed)
    return Plan(parts, images, macs, weights + moments + averages, train.steps, train.batch)


def check_fits(model: Model, plan: Plan, world_size: int, device_memory: int) -> None:
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
        f"does not fit: a process needs {size(plan.bytes)}, and of {size(device_memory)} about {size(room)} can be "
        f"used{remedy}"
    )


def _ways(model: Model, world_size: int, room: int) -> Iterator[str]:
    train = model.settings.train
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


def size(count: int) -> str:
    """A number of bytes in words."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 * {"B": 1, "KiB": 2**10, "MiB": 2**20}[unit]:
            return f"{count / _UNITS[unit.upper()]:.4g} {unit}"
    return f"{count / 2**30:.4g} GiB"
