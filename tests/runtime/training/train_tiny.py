"""Train the tiny hierarchy into a folder, resuming what is there: by itself, or as one process of several."""

from __future__ import annotations

from pathlib import Path

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer
from hvdsl.runtime.ground.world import process_group
from hvdsl.runtime.inference.evaluate import Evaluation, evaluate
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def train_tiny(folder: str | Path, steps: int, dropout: float, accumulate: int = 1) -> Evaluation:
    with process_group() as world:
        resuming = Path(folder).exists()
        if world.leads and not resuming:
            Run.create(folder, {})
        world.any(False)  # nobody goes on before the folder is there
        run = Run.open(folder)
        model = tiny(dropout=dropout).double()
        chosen = settings(
            steps=steps,
            optimizer=Optimizer(kind="adamw", lr=0.01, weight_decay=0.1),
            accumulate=accumulate,
            clip=1.0,
            checkpoint_every=Duration(n=1),
            keep=3,
        )
        trainer = Trainer(model, chosen, Blobs(20), run=run)
        if resuming:
            trainer.resume()
        if world.leads:
            print("ready", flush=True)
        trainer.fit()
        bound = evaluate(model, Blobs(7), batch=3, world=world)
        if world.leads:
            print(bound.images, bound.nats_per_dim, flush=True)
        return bound
