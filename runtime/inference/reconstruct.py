"""What each depth of the hierarchy knows of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.seeds import derive_seed
from hvdsl.runtime.inference.inference import inference, to_pixels
from hvdsl.runtime.inference.sample import Decode, decode_image
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.objective.elbo import ModelBatch, measure
from hvdsl.runtime.protocol import as_vae, is_quantized

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
