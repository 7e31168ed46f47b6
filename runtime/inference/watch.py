"""What is looked at while a model trains: the bound on held-out images, and pages of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from hvdsl.compiler.settings import Data, ModelSettings
from hvdsl.runtime.ground.pixels import pixel_bits
from hvdsl.runtime.inference.evaluate import Evaluation, evaluate
from hvdsl.runtime.inference.generate import depths, reconstruct, sample
from hvdsl.runtime.inference.image_files import grid, labelled_rows, rate_bars
from hvdsl.runtime.latents.conditions import as_tensors, conditions_of
from hvdsl.runtime.latents.group import default_temperatures
from hvdsl.runtime.protocol import as_vae, is_quantized
from hvdsl.runtime.training.batches import PixelSource, read_with_fields
from hvdsl.runtime.training.folder.logs import Measurement
from hvdsl.runtime.training.trainer import Periodic, Trainer

SAMPLES, ORIGINALS, DEPTHS = 36, 8, 4
LONG = 10  # epochs of training whose passes a validation takes: from here on it is announced


def watch(trainer: Trainer, validation: PixelSource) -> None:
    """Evaluate every `evaluate_every` and draw pictures every `sample_every`, as the spec's `train` section says."""
    settings, clock = trainer.settings, trainer.clock
    trainer.periodic += [
        Periodic(
            "validation",
            clock.every(trainer.train.evaluate_every),
            lambda step: _evaluation(trainer, validation, step).as_metrics(),
            settings.evaluate.use_ema,
        ),
        Periodic(
            "pictures",
            clock.every(trainer.train.sample_every),
            lambda step: _pictures(trainer, validation, step),
            settings.sample.use_ema,
        ),
    ]


def long_validation(samples: int, images: int, epoch: int) -> str | None:
    """A sentence about validations that take many passes through the model; None where they take few.

    Args:
        samples: Importance samples of an image (`evaluate.samples`).
        images: Validation images.
        epoch: Training images.
    """
    passes = samples * images
    if passes < LONG * epoch:
        return None
    return (
        f"each validation takes {passes:,} passes through the model ({images:,} images, {samples:,} samples each), as "
        f"many as {passes // epoch:,} epochs: `--set evaluate.samples=1` makes it short, and `hvdsl eval RUN "
        f"--samples {samples}` measures afterwards"
    )


def sample_page(
    model: nn.Module, settings: ModelSettings, n: int = SAMPLES, seed: int = 0, images: PixelSource | None = None
) -> Image.Image:
    """Samples at the spec's temperatures; where the model has conditions, under those of `images` in turn."""
    fields = [condition.name for condition in conditions_of(model)]
    given: Mapping[str, NDArray[Any]] = {}
    if fields and images is not None:
        _, given = read_with_fields(images, [i % len(images) for i in range(n)], fields)
    temperatures = default_temperatures(as_vae(model).LATENTS, settings.sample.temperature)
    drawn = sample(model, settings.data, n, temperature=temperatures, seed=seed, given=as_tensors(given))
    return grid(drawn, pixel_bits(settings.data))


def reconstruction_page(model: nn.Module, data: Data, images: PixelSource) -> Image.Image:
    """Some images, and what more and more of the hierarchy keeps of them."""
    groups = len(as_vae(model).LATENTS)
    fields = [condition.name for condition in conditions_of(model)]
    raw, given = read_with_fields(images, range(min(ORIGINALS, len(images))), fields)
    pixels = torch.from_numpy(raw.astype(np.float32))
    keep = depths(groups, DEPTHS)
    rows = [pixels, *reconstruct(model, data, pixels, keep, given=as_tensors(given))]
    labels = ["original", *(f"{k} of {groups} groups" for k in keep)]
    return labelled_rows(rows, labels, pixel_bits(data))


def rate_chart(model: nn.Module, evaluation: Evaluation) -> Image.Image:
    """The rate of each latent group."""
    labels = [f"{g.name} {'x'.join(map(str, g.shape))}" for g in as_vae(model).LATENTS]
    title = f"Rate of each latent group, {evaluation.bits_per_dim:.3f} bits/dim"
    return rate_bars(evaluation.rate_per_group, labels, title)


def _evaluation(trainer: Trainer, validation: PixelSource, step: int) -> Evaluation:
    train = trainer.train
    result = evaluate(
        trainer.model,
        validation,
        samples=trainer.settings.evaluate.samples,
        batch=max(1, train.batch // (trainer.world.size * train.accumulate)),
        seed=train.seed,
        world=trainer.world,
    )
    if trainer.log is not None:
        trainer.log.picture("rate_per_group", step, rate_chart(trainer.model, result), numbered=False)
    return result


def _pictures(trainer: Trainer, validation: PixelSource, step: int) -> Mapping[str, Measurement]:
    if trainer.log is not None:
        if not is_quantized(trainer.model):  # uniform codes are no samples: those need priors
            page = sample_page(trainer.model, trainer.settings, seed=trainer.train.seed, images=validation)
            trainer.log.picture("samples", step, page)
        page = reconstruction_page(trainer.model, trainer.settings.data, validation)
        trainer.log.picture("reconstructions", step, page)
    return {}
