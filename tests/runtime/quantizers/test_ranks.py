"""Quantizers on several ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

import hvdsl
from hvdsl.grammar.source import Source
from hvdsl.runtime.codes.extract import stored_codes
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.quantizers import EmaCodebook, NearestCode
from hvdsl.runtime.quantizers.usage import agree

OPTIONS = {"plain": {}, "kmeans": {"start": "kmeans"}, "expiring": {"expire": 1.105}}


def learned(kind: str, x: Tensor) -> dict[str, Tensor]:
    """The state after one step with this rank's `x`."""
    torch.manual_seed(world().rank)
    made = EmaCodebook(8, 3, (4, 4), **OPTIONS[kind])  # type: ignore[arg-type]  # one word each
    initialize(made, 0)
    made.double()
    agree(made, world())
    made.observe(made.quantize(NearestCode(x)))
    made.update(torch.tensor(True))
    return {f"{kind}.{key}": value for key, value in made.state_dict().items()}


def batch() -> Tensor:
    return torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()


SPEC = """hv 1
model shared
data arrays { shape = 1x8x8, bits = 8, input = v / 255 }
encoder { 8: conv(3x3, 4) -> avg_pool(2)
  4: tap }
decoder { 4: { z ~ codebook(8, 4) posterior nearest_code(skip); x = z }
  8: nearest(2) -> conv(3x3, logits) }
likelihood mse
objective { unit = mean_square }
"""


class Images:
    """Seven images, so that ranks have unequal shares."""

    name = "seven images"

    def __len__(self) -> int:
        return 7

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> NDArray[np.uint8]:
        return np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), np.uint8)[list(indices)]

    def labels(self, indices: Sequence[int]) -> None:
        return None


def extracted(folder: Path) -> NDArray[np.integer[Any]]:
    """The codes of all images, made by all ranks together."""
    model = hvdsl.build(Source("shared.hv", SPEC))
    initialize(model, 0)
    return stored_codes(model, Images(), folder, "digest", batch=2, world=world()).matrix


def one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    share = batch()[world().share(6).start : world().share(6).stop]
    state = {key: value for kind in OPTIONS for key, value in learned(kind, share).items()}
    save_file(state, Path(folder) / f"{rank}.safetensors")
    assert len(extracted(Path(folder) / "shared")) == 7
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_learn_and_extract_as_one(tmp_path: Path) -> None:
    spawn(one_rank, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]  # torch does not type it
    assert np.array_equal(CodeStore.open(tmp_path / "shared").matrix, extracted(tmp_path / "alone"))
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(second[key], value) for key, value in first.items()), "both ranks hold the same codes"
    for key, value in learned("plain", batch()).items():
        torch.testing.assert_close(first[key], value, rtol=1e-12, atol=1e-12)
    assert first["kmeans.started"].item() == 1
    rows = batch().permute(0, 2, 3, 1).reshape(-1, 3)
    fresh = first["expiring.codes"][first["expiring.counts"] == torch.tensor(1.105, dtype=torch.float64)]
    assert len(fresh) and all((row == rows).all(1).any() for row in fresh)
