"""What makes training fast: which of it a run uses, and why it does not use the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from hvdsl.runtime.training.precision import Precision

LEVELS: Mapping[str, int] = {"cpu": 1, "cuda": 1}
"""The optimisation level by kind of device, where none is asked for.

On the CPU by measurement: level 2 gains nothing there. On CUDA level 1 is not measured against level 0; level 2 took
0.84 of its time in one measurement (`vdvae_cifar10`, batch 32, bf16), after 52 s of compilation.
"""


def default_level(device: torch.device) -> int:
    """The optimisation level of a new run on a device."""
    return LEVELS.get(device.type, 1)


def compilation_cache() -> Path:
    """Where code that `torch.compile` generates is kept from run to run: in the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvdsl" / "compiled"


def fast_paths(
    device: torch.device,
    *,
    level: int | None,
    precision: Precision,
    graphs: str | None,
    optimizer: torch.optim.Optimizer,
    workers: int,
) -> str:
    """One line: the fast paths that are on, then those that are off, each with the reason.

    Args:
        graphs: Why steps are not launched as graphs; None where they are.
    """
    cuda = device.type == "cuda"
    on, off = [] if level is None else [f"-O{level}"], []
    on.append(precision)
    if precision == "fp32":
        off.append("tf32, bf16, fp16 (`--precision`)" if cuda else "bf16 (`--precision bf16`)")
    if level is not None and level < 2:
        off.append(f"compiled recipes ({'measured once' if cuda else 'no gain on a CPU'}, `-O2`)")
    kind = type(optimizer).__name__
    if optimizer.param_groups[0].get("fused"):
        on.append(f"fused {kind}")
    else:
        off.append(f"fused optimizer (torch has no fused {kind})")
    (on if cuda else off).append("channels-last" if cuda else "channels-last (slower on a CPU but where -O1 puts it)")
    if graphs is None:
        on.append("graphs")
    else:
        off.append(f"graphs ({graphs})")
    if workers:
        on.append(f"{workers} {'thread' if workers == 1 else 'threads'} reading ahead")
    else:
        off.append("reading ahead (`--workers 1`)")
    return f"fast paths: {', '.join(on)}; off: {', '.join(off) or 'none'}"
