"""What images would be under other conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hvdsl.errors import UsageError
from hvdsl.runtime.inference.edit import edit
from hvdsl.runtime.inference.inference import chunks, some
from hvdsl.runtime.latents.conditions import conditions_of
from hvdsl.workflows.conditions import GivenValue, values_of
from hvdsl.workflows.images import ImagesLike, as_pixels
from hvdsl.workflows.open import Opened
from hvdsl.workflows.runs import class_names


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Edits:
    """Counterfactuals of N images, pixels `(N, C, H, W)`.

    Attributes:
        original: The images.
        reconstruction: What the model keeps of them under their own conditions.
        edited: What they would be under the changed ones.
        own_noise: Whether the pixels' own noise was kept, so that unchanged conditions give the images back exactly. A
            mixture does not say what of a pixel is noise: `edited` is then its mean.
    """

    original: Tensor
    reconstruction: Tensor
    edited: Tensor
    own_noise: bool

    @property
    def difference(self) -> Tensor:
        """`edited` minus what it would be with nothing changed, float `(N, C, H, W)`."""
        return self.edited.float() - (self.original if self.own_noise else self.reconstruction).float()

    def __repr__(self) -> str:
        return f"<hvdsl.Edits of {len(self.original)} images>"


def edit_images(
    opened: Opened,
    images: ImagesLike,
    changes: Mapping[str, GivenValue],
    given: Mapping[str, GivenValue] | None,
    batch: int,
) -> Edits:
    """Return what images would be under changed conditions; see `Trained.edit`.

    Raises:
        UsageError: the model has no conditions, or nothing is changed.
    """
    module, data = opened.module, opened.data
    pixels, fields = opened.images(images, given)
    conditions = conditions_of(module)
    if not conditions:
        raise UsageError("this model has no conditions to change: declare some with `given` in `data`, and train")
    if not changes:
        named = ", ".join(f"{condition.name}=…" for condition in conditions)
        raise UsageError(f"--set-given says what to change: one of {named}")
    names = class_names(opened.run)
    changed = values_of(conditions, changes, len(pixels), data, names, option="--set-given", generating=True)
    parts = [
        edit(module, data, pixels[i.start : i.stop], some(fields, i), some(changed, i))
        for i in chunks(range(len(pixels)), batch)
    ]
    own_noise = all(part.own_noise for part in parts)
    return Edits(
        as_pixels(pixels, data),
        as_pixels(torch.cat([part.reconstruction for part in parts]), data, mean=True),
        as_pixels(torch.cat([part.edited for part in parts]), data, mean=not own_noise),
        own_noise,
    )
