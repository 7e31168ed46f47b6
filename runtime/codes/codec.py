"""Images to codes and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.runtime.codes.levels import check_fit, code_levels
from hvdsl.runtime.inference.inference import chunks, inference, to_pixels
from hvdsl.runtime.latents import Given, Source, Traversal
from hvdsl.runtime.protocol import as_vae


def encode(model: nn.Module, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The codes of images, by level, and their reconstruction, from one pass in evaluation mode.

    The codes are the nearest of a quantizer, the most probable of a categorical posterior.

    Args:
        pixels: Raw pixel values `(N, C, H, W)`.

    Returns:
        Codes `(N, H, W)` (`(N, depth, H, W)` in residual quantization), int64, and the likelihood's parameters.

    Raises:
        HvdslError: A latent is not discrete.
    """
    levels, vae = code_levels(model), as_vae(model)
    with inference(model) as device:
        latents = Traversal(vae.LATENTS, len(pixels), sources=Source.POSTERIOR_MEAN, device=device)
        params = vae(vae.input(pixels.float().to(device)), latents)
    codes = {}
    for level, outcome in zip(levels, latents.outcomes, strict=True):
        assert outcome.codes is not None  # an inferred discrete group has codes
        codes[level.name] = outcome.codes.reshape(-1, *level.shape)
    return codes, params


def decode(model: nn.Module, data: Data, codes: Mapping[str, Tensor], *, batch: int = 64) -> Tensor:
    """The images of codes, raw pixel values `(N, C, H, W)` on the CPU: the likelihood's mean.

    The codes of an image give what `reconstruct` gives for the image, bit for bit, on one device and in equal batches.

    Raises:
        CodesError: The codes are not this model's.
    """
    levels, vae = code_levels(model), as_vae(model)
    check_fit(codes, levels, "what is to be decoded")
    images = []
    with inference(model) as device:
        for indices in chunks(range(len(codes[levels[0].name])), batch):
            given = [
                Given(codes[level.name][indices.start : indices.stop].long().reshape(-1, level.depth, *level.grid))
                for level in levels
            ]
            latents = Traversal(vae.LATENTS, len(indices), sources=given, device=device)
            images.append(to_pixels(vae, vae.likelihood.mean(vae(None, latents)), data).cpu())
    return torch.cat(images)
