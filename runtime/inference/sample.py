"""Images from a model's prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.pixels import as_stored
from hvdsl.runtime.ground.seeds import derive_seed
from hvdsl.runtime.inference.inference import chunks, inference, to_pixels
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.protocol import HierarchicalVae, as_vae

Decode = Literal["sample", "mean"]


def sample(
    model: nn.Module,
    data: Data,
    n: int,
    *,
    temperature: float | Sequence[float] = 1.0,
    seed: int = 0,
    batch: int = 64,
    decode: Decode = "sample",
) -> Tensor:
    """Draw `n` images: raw pixel values `(n, C, H, W)`, whole numbers in float32 on the CPU.

    Image i depends on (seed, i) alone, never on `batch` or `n`.

    Args:
        temperature: Factor on the standard deviation of each prior: one for all groups, or one for each in order of
            generation. The likelihood is sampled at temperature 1.
        decode: Draw from the likelihood, or take its mean.

    Raises:
        HvdslError: The temperature is negative, or not one for each group.
    """
    vae, noise_seed = as_vae(model), derive_seed(seed, "sampling noise")
    images = []
    with inference(model) as device:
        for indices in chunks(range(n), batch):
            noise = image_noise(model, vae.LATENTS, noise_seed, indices, device=device)
            try:
                latents = Traversal.generate(vae.LATENTS, len(indices), noise, temperature, device=device)
            except ValueError as error:
                raise HvdslError(str(error)) from error
            decoded = decode_image(vae, vae(None, latents), noise, decode)
            images.append(as_stored(to_pixels(vae, decoded, data), data).cpu())
    return torch.cat(images) if images else torch.empty(0, *data.shape)


def decode_image(vae: HierarchicalVae, params: Tensor, noise: Noise, decode: Decode) -> Tensor:
    """An image in the target's units, from the likelihood's parameters."""
    return vae.likelihood.mean(params) if decode == "mean" else vae.likelihood.sample(params, noise)
