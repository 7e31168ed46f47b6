"""Whether all processes hold the same numbers: what training in parallel rests on, and nobody sees when it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.training.checkpoint import Tensors

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_replicas(parts: Mapping[str, Tensors], world: World, step: int) -> None:
    """Compare sums over the bits of every tensor of a checkpoint between all processes.

    Raises:
        HvdslError: One differs; it names the tensor and the rank.
    """
    if world.size == 1:
        return
    by_name = {f"{part}: {name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    names = sorted(by_name)  # an optimizer that was loaded has its own order
    sums = torch.stack([_checksum(by_name[name]) for name in names]).tolist()
    first, *others = (json.loads(text) for text in world.texts(json.dumps(sums)))
    for rank, other in enumerate(others, 1):
        for name, here, there in zip(names, first, other, strict=True):
            if here != there:
                raise HvdslError(
                    f"rank {rank} does not hold the same numbers as rank 0 after {step} steps: `{name}` differs; go on "
                    "from the last checkpoint with `--resume`, and look at that machine"
                )


def _checksum(tensor: Tensor) -> Tensor:
    values = tensor.detach().contiguous().reshape(-1)
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    return values.view(_INTEGERS[values.element_size()]).sum(dtype=torch.int64).cpu()
