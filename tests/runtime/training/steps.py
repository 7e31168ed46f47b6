"""Steps of a tiny hierarchy, its weights, and models with batch norm, for tests of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.layers import BatchNormSiLU, Conv2d, Recipe, initialize
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def part(n: int = 8, first: int = 0, step: int = 0, dtype: torch.dtype = torch.float32) -> ModelBatch:
    model = tiny()
    v = torch.from_numpy(Blobs(64).batch(range(first, first + n)).astype("float32")).to(dtype)
    return ModelBatch(model.input(v), model.target(v), SampleNoise(0, range(first, first + n), step))


def optimization(model: nn.Module, **train: Any) -> Optimization:
    chosen = settings(**{"warmup": Duration(n=0), **train}).train
    assert chosen is not None
    return Optimization(model, chosen, objective(), Clock(8, None))


def objective() -> Objective:
    return Objective(settings().objective, Clock(8, None).steps)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(optimization: Optimization) -> dict[str, dict[str, Tensor]]:
    return {part: {name: t.clone() for name, t in tensors.items()} for part, tensors in optimization.tensors().items()}


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def trainer(model: nn.Module, run: Run | None = None, **train: Any) -> Trainer:
    return Trainer(model, settings(**train), Blobs(20), run=run)


class ConvAndNorm(Recipe):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = Conv2d(3, 4, (3, 3)), BatchNormSiLU(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class BatchNormed(nn.Module):
    """One section with one row with one recipe that holds a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.r5 = nn.Module()
        self.decoder.r5.cell = nn.ModuleList([ConvAndNorm()])
        initialize(self, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder.r5.cell[0](x)  # type: ignore[union-attr, index, operator, no-any-return]
