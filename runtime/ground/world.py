"""This process's place among those that `torchrun` started, and the operations that all of them agree on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.peers import exchanged, joined
from hvdsl.runtime.ground.tensors import Agreement


@dataclass(frozen=True, slots=True)
class World(Agreement):
    """This process's place among all.

    Attributes:
        rank: From 0; rank 0 writes the files.
        size: The number of processes.
        local: The rank within the machine, which is the number of its accelerator.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, n: int) -> range:
        """This rank's contiguous part of `n` items; the parts differ by at most one."""
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks; `values` itself where there is one rank."""
        return values if self.size == 1 else self.sum(values.clone()) / self.size

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes: what one rank alone learns (a signal, a full disk), all must act on."""
        if self.size == 1:
            return flag
        device = "cpu" if dist.get_backend() == "gloo" else f"cuda:{self.local}"
        votes = torch.tensor(float(flag), device=device)
        return bool(self.sum(votes).item() > 0)

    def texts(self, text: str) -> list[str]:
        """What every rank says, in order of ranks; all must ask alike, and wait for all."""
        return [text] if self.size == 1 else exchanged(self.rank, self.size, text)

    def check_same(self, what: Mapping[str, object]) -> None:
        """Refuse to compute as one where the ranks were not started alike.

        Args:
            what: What all must agree on, by the name that a person knows it under; digests of what is long.

        Raises:
            HvdslError: It names the rank and what differs.
        """
        own = {name: str(value) for name, value in what.items()}
        first, *others = (json.loads(text) for text in self.texts(json.dumps(own)))
        for rank, other in enumerate(others, 1):
            for name in own:
                if first.get(name) != other.get(name):
                    there, here = (str(one.get(name))[:40] for one in (other, first))
                    raise HvdslError(
                        f"rank {rank} was started with another {name} than rank 0 ({there}, not {here}): "
                        "start all processes with the same command, on the same files"
                    )


def world() -> World:
    """The place of this process, as `torch.distributed` knows it; alone where that is not initialised."""
    if not dist.is_available() or not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def process_group(device: str = "cpu") -> Iterator[World]:
    """Join the others if `torchrun` started this process; leave at the end.

    Raises:
        HvdslError: The environment is half that of `torchrun`.
        PeerError: Another process did not come in time, failed, or is gone: it names which, and its first error.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield world()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise HvdslError(f"WORLD_SIZE is set but {', '.join(missing)} is not: start several processes with `torchrun`")
    if device != "cpu":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    numbers = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE")}
    for name, text in numbers.items():
        if not text.isdigit():
            raise HvdslError(f"{name} is a whole number, and is set to `{text}`: start processes with `torchrun`")
    rank, size = int(numbers["RANK"]), int(numbers["WORLD_SIZE"])
    if size == 1:  # one process by itself, be it of `torchrun`'s
        yield world()
        return
    with joined(rank, size, "gloo" if device == "cpu" else "nccl"):
        yield world()
