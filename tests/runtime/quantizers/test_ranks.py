"""Quantizers on several ranks."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from hvdsl.runtime.layers import initialize
from hvdsl.runtime.quantizers import EmaCodebook, NearestCode
from hvdsl.runtime.training.distributed import world

OPTIONS = {"plain": {}, "kmeans": {"start": "kmeans"}, "expiring": {"expire": 1.105}}


def learned(kind: str, x: Tensor) -> dict[str, Tensor]:
    """The state after one step with this rank's `x`."""
    torch.manual_seed(world().rank)
    made = EmaCodebook(8, 3, (4, 4), **OPTIONS[kind])  # type: ignore[arg-type]  # one word each
    initialize(made, 0)
    made.observe(made.quantize(NearestCode(x)))
    made.update(world())
    return {f"{kind}.{key}": value for key, value in made.state_dict().items()}


def batch() -> Tensor:
    return torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    share = batch()[world().share(6).start : world().share(6).stop]
    state = {key: value for kind in OPTIONS for key, value in learned(kind, share).items()}
    save_file(state, Path(folder) / f"{rank}.safetensors")
    dist.destroy_process_group()


def test_two_ranks_learn_as_one_from_the_whole_batch(tmp_path: Path) -> None:
    spawn(one_rank, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]  # torch does not type it
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(second[key], value) for key, value in first.items()), "both ranks hold the same codes"
    for key, value in learned("plain", batch()).items():
        torch.testing.assert_close(first[key], value)
    assert first["kmeans.started"].item() == 1
    rows = batch().permute(0, 2, 3, 1).reshape(-1, 3)
    fresh = first["expiring.codes"][first["expiring.counts"] == torch.tensor(1.105)]
    assert len(fresh) and all((row == rows).all(1).any() for row in fresh)
