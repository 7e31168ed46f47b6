"""Images from a model: samples, and what more and more of the hierarchy keeps of given images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.pixels import as_stored
from hvdsl.runtime.ground.seeds import derive_seed
from hvdsl.runtime.inference.inference import chunks, inference, to_pixels
from hvdsl.runtime.latents import Given, Source, Traversal
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.objective.elbo import ModelBatch, measure
from hvdsl.runtime.protocol import HierarchicalVae, as_vae, is_quantized

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
    parts = [
        sample_batch(model, data, indices, temperature=temperature, seed=seed, decode=decode)
        for indices in chunks(range(n), batch)
    ]
    return torch.cat(parts) if parts else torch.empty(0, *data.shape)


def sample_batch(
    model: nn.Module,
    data: Data,
    indices: range,
    *,
    temperature: float | Sequence[float] = 1.0,
    seed: int = 0,
    decode: Decode = "sample",
    fixed: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Draw the images of these numbers in one pass; see `sample`.

    Args:
        fixed: Values `(N, Z, H, W)` of some groups, by their place in the order of generation.

    Raises:
        HvdslError: As `sample`; or a fixed value has another shape than its group.
    """
    vae, noise_seed = as_vae(model), derive_seed(seed, "sampling noise")
    held = {place: Given(value) for place, value in (fixed or {}).items()}
    sources: list[Source | Given] = [held.get(place, Source.PRIOR) for place in range(len(vae.LATENTS))]
    with inference(model) as device:
        noise = image_noise(model, vae.LATENTS, noise_seed, indices, device=device)
        try:
            latents = Traversal(vae.LATENTS, len(indices), noise, sources, temperature, device=device)
        except ValueError as error:
            raise HvdslError(str(error)) from error
        decoded = decode_image(vae, vae(None, latents), noise, decode)
        return as_stored(to_pixels(vae, decoded, data), data).cpu()


def decode_image(vae: HierarchicalVae, params: Tensor, noise: Noise, decode: Decode) -> Tensor:
    """An image in the target's units, from the likelihood's parameters."""
    return vae.likelihood.mean(params) if decode == "mean" else vae.likelihood.sample(params, noise)


TEMPERATURE = 0.1


def depths(groups: int, rows: int) -> list[int]:
    """Up to `rows` numbers of groups to keep, evenly spread and ending with all of them."""
    return sorted({math.ceil(groups * i / rows) for i in range(1, rows + 1)})


def reconstruct(
    model: nn.Module,
    data: Data,
    pixels: Tensor,
    keep: Sequence[int],
    *,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    first: int = 0,
    decode: Decode = "mean",
) -> list[Tensor]:
    """The images as the first `keep[i]` latent groups know them, raw pixel values `(N, C, H, W)`, one tensor per entry.

    Those groups take their posterior mean; the rest are drawn from their priors at `temperature`, as in the figures of
    VDVAE (Child 2021, figure 4). Codes drawn uniformly would be noise: of a model of codes the rest is the mean code.

    Args:
        pixels: Raw pixel values `(N, C, H, W)`.
        first: The number of the first of them, which is what noise is drawn by.

    Raises:
        HvdslError: There are not so many groups.
    """
    vae = as_vae(model)
    groups = len(vae.LATENTS)
    wrong = [k for k in keep if not 0 <= k <= groups]
    if wrong:
        raise HvdslError(f"cannot keep {wrong[0]} latent groups: the model has {groups}")
    rest: Literal["sample", "mean"] = "mean" if is_quantized(model) else "sample"
    rows = []
    with inference(model) as device:
        v = pixels.to(next(model.parameters()))
        noise_seed = derive_seed(seed, "reconstruction noise")
        noise = image_noise(model, vae.LATENTS, noise_seed, range(first, first + len(v)), device=device)
        images = ModelBatch(vae.input(v), vae.target(v), noise)
        for kept in keep:
            latents = Traversal.reconstruct(
                vae.LATENTS, len(pixels), noise, keep=kept, rest=rest, temperature=temperature, device=device
            )
            decoded = decode_image(vae, measure(model, images, latents).params, noise, decode)
            rows.append(to_pixels(vae, decoded, data).cpu())
    return rows
