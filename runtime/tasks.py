"""What a model is trained for: a loss, and what of a batch the loss takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from hvdsl.compiler.settings import Duration, Train
from hvdsl.compiler.settings import Objective as ObjectiveSettings
from hvdsl.runtime.batches import Batch
from hvdsl.runtime.distributed import World
from hvdsl.runtime.noise import SampleNoise
from hvdsl.runtime.objective import Objective
from hvdsl.runtime.optimization import HasBatch, Loss, Part
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.seeds import derive_seed


class Task(Protocol):
    def loss(self, steps: Callable[[Duration], int], world: World) -> Loss:
        """The objective; `steps` turns durations into steps."""
        ...

    def parts(self, model: nn.Module, batch: Batch, train: Train) -> Sequence[HasBatch]:
        """This rank's batch on the model's device, in `train.accumulate` equal parts."""
        ...


class ImageTask:
    """A hierarchical VAE on images: the spec's objective."""

    def __init__(self, objective: ObjectiveSettings) -> None:
        self._objective = objective

    def loss(self, steps: Callable[[Duration], int], world: World) -> Loss:
        return Objective(self._objective, steps, world.mean)

    def parts(self, model: nn.Module, batch: Batch, train: Train) -> list[Part]:
        pixels = torch.from_numpy(batch.pixels.astype(np.float32)).to(next(model.parameters()).device)
        seed = derive_seed(train.seed, "training noise")
        indices = range(batch.first, batch.first + len(pixels))
        size = len(pixels) // train.accumulate
        vae, parts = as_vae(model), []
        for at in range(0, len(pixels), size):
            v = pixels[at : at + size]
            noise = SampleNoise(seed, indices[at : at + size], batch.step)
            parts.append(Part(vae.input(v), vae.target(v), noise))
        return parts
