"""What a model is trained for: its optimisation, and what of a batch that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hvdsl.compiler.settings import ObjectiveSettings, Train
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import JointNoise, derive_seed
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.latents.conditions import (
    arguments_of,
    as_tensors,
    check_target,
    conditions_of,
    dropped,
    target_of,
    weight_of,
)
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.objective.penalties import Penalties
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.batches import PixelBatch
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.step.transfer import on_device, pixels_on

_WEIGHT = "weight of pixels"  # no name of a field


class Task(Protocol):
    """The part of training that differs from one kind of model to another."""

    def optimization(self, model: nn.Module, train: Train, clock: Clock, world: World) -> Optimization[Any]:
        """What makes the steps."""
        ...

    def parts(self, model: nn.Module, batch: PixelBatch, train: Train) -> Sequence[Any]:
        """This rank's batch on the model's device, in `train.accumulate` equal parts, as that takes them."""
        ...


class ImageTask:
    """A hierarchical VAE on images: the spec's objective and penalties."""

    def __init__(self, objective: ObjectiveSettings) -> None:
        self._objective = objective

    def optimization(self, model: nn.Module, train: Train, clock: Clock, world: World) -> Optimization[ModelBatch]:
        """What makes the steps.

        Raises:
            HvdslError: groups are to be balanced, and there is one.
        """
        if self._objective.balance is not None and len(as_vae(model).LATENTS) == 1:
            raise HvdslError(
                "`objective.balance` weighs latent groups against each other, and the model has one: remove `balance`"
            )
        objective = Objective(self._objective, clock.steps, world.mean)
        penalties = Penalties(model, self._objective, clock.steps, derive_seed(train.seed, "penalties"))
        return Optimization(model, train, objective, clock, world, penalties)

    def parts(self, model: nn.Module, batch: PixelBatch, train: Train) -> list[ModelBatch]:
        """Images mapped for encoder and likelihood, with the noise that each draws for itself."""
        pixels = pixels_on(batch.pixels, next(model.parameters()))
        arrays = self._left_out(model, batch, train)
        stored = as_tensors(batch.given)  # on the host, where they can be looked at
        weight = weight_of(model, stored)
        check_target(model, torch.from_numpy(batch.pixels).float(), stored, batch.names)
        on_host = as_tensors(arrays) | ({} if weight is None else {_WEIGHT: weight})
        given = {name: on_device(values.numpy(), pixels.device) for name, values in on_host.items()}
        seed = derive_seed(train.seed, "training noise")
        indices = range(batch.first, batch.first + len(pixels))
        size = len(pixels) // train.accumulate
        seeds = [seed, *(derive_seed(seed, "sample", k) for k in range(1, self._objective.samples))]
        vae, parts = as_vae(model), []
        for at in range(0, len(pixels), size):
            piece = slice(at, at + size)
            v = pixels[piece]
            noise, *more = (
                image_noise(model, vae.LATENTS, of_sample, indices[piece], batch.step, v.device) for of_sample in seeds
            )
            if isinstance(noise, JointNoise) and v.device.type != "cpu":
                noise.draw()  # ahead of the step
            own = {name: values[piece] for name, values in given.items()}
            weights = own.pop(_WEIGHT, None)
            target = target_of(model, v, own)
            parts.append(ModelBatch(vae.input(v), target, noise, arguments_of(model, own), weights, more=more))
        if weight is None or len(parts) == 1:
            return parts
        scored = [vae.likelihood.weights(p.weight, p.target).flatten(1).sum(1) for p in parts if p.weight is not None]
        dims = torch.cat(scored).mean()
        return [replace(part, dims=dims) for part in parts]

    def _left_out(self, model: nn.Module, batch: PixelBatch, train: Train) -> dict[str, NDArray[Any]]:
        """The fields of a batch, some of them left out: a function of (seed, step, place in the whole batch)."""
        conditions = conditions_of(model)
        if not any(condition.droppable for condition in conditions):
            return dict(batch.given)
        seed, last = derive_seed(train.seed, "given.drop"), batch.first + len(batch.pixels)
        chance = np.random.default_rng((seed, batch.step)).random(last)[batch.first :]
        return dropped(conditions, batch.given, chance)
