"""Running statistics of batch norm measured again on what the prior makes (NVAE, Vahdat & Kautz 2020, section 4.1).

Evaluation normalises by statistics of posterior samples at temperature 1. Samples of the prior, at a lower temperature
above all, have others; without a correction they come out with the wrong contrast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise, derive_seed
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.latents.conditions import Rows, arguments_of
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.layers import BatchNorm2d
from hvdsl.runtime.protocol import as_vae

BATCH = 16  # images per pass, as in NVAE's release


def recalibrate_batch_norm(
    model: nn.Module,
    passes: int,
    *,
    temperature: float | Sequence[float] = 1.0,
    batch: int = BATCH,
    seed: int = 0,
    given: Mapping[str, Rows] = MappingProxyType({}),
) -> None:
    """Move the running statistics of every batch norm that generation runs through, by so many prior passes.

    In each pass batch norms work as in training, so that their statistics move towards those of the pass by their own
    momentum; everything else works as in evaluation, and nothing has a gradient. What only the posterior needs is not
    run and keeps its statistics. Where the model has conditions, those of `given` are taken in turn.

    Raises:
        HvdslError: the model has no batch norm, or the temperature is none.
    """
    noise_seed = derive_seed(seed, "recalibration noise")
    groups, device = as_vae(model).LATENTS, next(model.parameters()).device
    noises = (image_noise(model, groups, noise_seed, range(batch), step, device) for step in range(passes))
    recalibrate_with(model, noises, temperature, given)


def recalibrate_with(
    model: nn.Module,
    noises: Iterable[Noise],
    temperature: float | Sequence[float] = 1.0,
    given: Mapping[str, Rows] = MappingProxyType({}),
) -> None:
    """The same, one pass for each of `noises`."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    if not norms:
        raise HvdslError("the model has no batch norm to recalibrate: remove `recalibrate_batch_norm`")
    vae, device = as_vae(model), next(model.parameters()).device
    training = {module: module.training for module in model.modules()}
    model.eval()
    for norm in norms:
        norm.train()
    try:
        with torch.no_grad():
            for noise in noises:
                places = {name: torch.arange(noise.batch) % len(value) for name, value in given.items()}
                turn = {name: value[places[name]].to(device) for name, value in given.items()}
                latents = Traversal.generate(vae.LATENTS, noise.batch, noise, temperature, device=device)
                vae(None, latents, **arguments_of(model, turn))
    except ValueError as error:
        raise HvdslError(str(error)) from error
    finally:
        for module, mode in training.items():
            module.training = mode
