"""What `hvdsl train` does every so many steps: evaluation on the validation images, a page of samples."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from hvdsl.compiler.settings import ModelSettings
from hvdsl.runtime.data import Splits
from hvdsl.runtime.evaluate import evaluate
from hvdsl.runtime.inference import pixel_bits
from hvdsl.runtime.metrics import Value
from hvdsl.runtime.pictures import grid, save_png
from hvdsl.runtime.run import Run
from hvdsl.runtime.sample import sample
from hvdsl.runtime.trainer import Periodic, Trainer

PAGE = 36  # images on a page of samples


def periodic(trainer: Trainer, module: nn.Module, settings: ModelSettings, splits: Splits, run: Run) -> list[Periodic]:
    """Return the actions that the spec's `train` section asks for."""
    train = trainer.train

    def score(step: int) -> Mapping[str, Value]:
        return evaluate(module, splits.validation, batch=train.batch, world=trainer.world).as_metrics()

    def draw(step: int) -> Mapping[str, Value]:
        if trainer.world.leads:
            images = sample(module, settings.data, PAGE, temperature=settings.sample.temperature, batch=train.batch)
            save_png(grid(images, pixel_bits(settings.data)), run.pictures / f"samples-{step:07d}.png")
        return {}

    return [
        Periodic("evaluate", trainer.clock.every(train.evaluate_every), score, settings.evaluate.use_ema),
        Periodic("sample", trainer.clock.every(train.sample_every), draw, settings.sample.use_ema),
    ]
