"""Images as a model's latents know them: reconstructed from some groups, or painted in by all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hvdsl.errors import UsageError
from hvdsl.runtime.inference.generate import TEMPERATURE, reconstruct
from hvdsl.runtime.inference.inference import chunks, some
from hvdsl.runtime.inference.inpaint import inpaint
from hvdsl.runtime.protocol import as_vae, is_quantized
from hvdsl.workflows.conditions import GivenValue
from hvdsl.workflows.images import ImagesLike, MaskLike, as_pixels, read_mask
from hvdsl.workflows.open import Opened

INPAINTING_STEPS = 100


def reconstruct_images(
    opened: Opened,
    images: ImagesLike,
    *,
    keep: int | None = None,
    temperature: float | None = None,
    batch: int = 64,
    seed: int = 0,
    given: Mapping[str, GivenValue] | None = None,
) -> Tensor:
    """Return the images as their first `keep` groups know them; see `Trained.reconstruct`.

    Raises:
        UsageError: a temperature is given for codes.
        HvdslError: the images do not fit, or there are not so many groups.
    """
    if temperature is not None and is_quantized(opened.module):
        raise UsageError("--temperature is of groups that are drawn; codes that are not kept take their mean")
    groups = len(as_vae(opened.module).LATENTS)
    pixels, fields = opened.images(images, given)
    parts = []
    for indices in chunks(range(len(pixels)), batch):
        [row] = reconstruct(
            opened.module,
            opened.data,
            pixels[indices.start : indices.stop],
            [groups if keep is None else keep],
            temperature=TEMPERATURE if temperature is None else temperature,
            seed=seed,
            first=indices.start,
            given=some(fields, indices),
        )
        parts.append(row)
    return as_pixels(torch.cat(parts), opened.data, mean=True)


def paint_in(
    opened: Opened,
    images: ImagesLike,
    mask: MaskLike,
    *,
    steps: int,
    batch: int,
    given: Mapping[str, GivenValue] | None,
) -> Tensor:
    """Return the images with what `mask` marks as their latents have it; see `Trained.reconstruct`.

    Raises:
        HvdslError: the images or the mask do not fit, or the model cannot paint in.
    """
    pixels, fields = opened.images(images, given)
    hole = read_mask(mask, opened.data.shape[1:])
    parts = [
        inpaint(opened.module, opened.data, pixels[i.start : i.stop], hole, some(fields, i), steps)
        for i in chunks(range(len(pixels)), batch)
    ]
    return as_pixels(torch.cat(parts), opened.data, mean=True)
