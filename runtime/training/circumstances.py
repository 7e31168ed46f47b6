"""What bitwise continuation depends on beside the state of a checkpoint: kept in it, and compared at a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hvdsl.compiler.settings import Train
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.training.checkpoint import Checkpoint

_HARMLESS = frozenset(
    {"log_every", "evaluate_every", "sample_every", "checkpoint_every", "keep", "patience", "steps", "epochs"}
)
"""Settings of `train` that do not touch what is learned; `steps` and `epochs` are what one changes to go on longer."""


def circumstances(train: Train, world: World, device: torch.device) -> dict[str, Any]:
    """Those of this process, as JSON."""
    return {
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "device": device.type,
        "torch": torch.__version__,
        "train": train.model_dump(mode="json", by_alias=True),
    }


def differences(checkpoint: Checkpoint, now: Mapping[str, Any]) -> list[str]:
    """One line for each thing that keeps the continuation from being bit for bit what it would have been."""
    notes = []
    for name in ("threads", "processes", "device", "torch"):
        before = checkpoint.state.get(name)
        if before != now[name]:
            notes.append(f"resuming with {name} {now[name]}, not {before}: results will differ in the last digits")
    before = checkpoint.state.get("train")
    for key, value in now["train"].items():
        if isinstance(before, Mapping) and before.get(key) != value and key not in _HARMLESS:
            notes.append(f"resuming with `train.{key}` changed from {before.get(key)} to {value}")
    return notes
