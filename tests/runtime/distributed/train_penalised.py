"""Train a tiny model with batch norm and penalties; under `torchrun`'s variables one of several."""

from pathlib import Path
from typing import Any

import torch

from hvdsl.compiler.settings import ObjectiveSettings, Optimizer
from hvdsl.runtime.ground.world import process_group
from hvdsl.runtime.training.batches import batches
from hvdsl.runtime.training.folder.weights import model_tensors
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def train_penalised(**train: Any) -> Any:
    """Weights and statistics after three steps of plain gradient descent, and each step's loss."""
    with process_group():
        model = tiny(norm=True).double()
        spec = settings(steps=3, optimizer=Optimizer(kind="sgd", lr=1e-3), **train)
        objective = ObjectiveSettings(unit="nats_per_image", spectral=1.0, batch_norm_gamma=1.0)
        trainer = Trainer(model, spec.model_copy(update={"objective": objective}), Blobs(20))
        model.train()
        stream = batches(trainer.data, trainer.order, 0)
        losses = [trainer.step(next(stream)).loss for _ in range(3)]
        return model_tensors(model) | {"loss": torch.tensor(losses)}, trainer.world


def penalised_of_two(file: Path) -> None:
    """One of two processes; the first writes what came of it."""
    tensors, world = train_penalised()
    assert world.size == 2
    if world.leads:
        torch.save(tensors, file)
