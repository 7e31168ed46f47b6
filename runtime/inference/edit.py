"""Counterfactuals: what an image would have been under other conditions (Pearl's three steps, in a hierarchy).

Abduction: z from the posterior under the true conditions; of each group whose prior is location-scale the part that the
prior does not explain, u = (z - m) / s, and of a location-scale likelihood (x - m) / s. Action: the changed conditions.
Prediction: z* = m* + s* u group by group, and the same with what was kept of the pixels (de Sousa Ribeiro et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.distributions.location_scale import LocationScale
from hvdsl.runtime.ground.pixels import as_mean, as_stored
from hvdsl.runtime.inference.inference import inference, to_pixels
from hvdsl.runtime.latents import LatentGroup, Source, Traversal
from hvdsl.runtime.latents.conditions import arguments_of, target_of
from hvdsl.runtime.latents.traversal import Draw
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.quantizers import NearestCode, UniformCodes


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """Raw pixel values `(N, C, H, W)` on the CPU.

    Attributes:
        reconstruction: The likelihood's mean under the true conditions.
        edited: The image under the changed ones.
        own_noise: Whether the pixels' own noise was kept: unchanged conditions then give the image back exactly.
    """

    reconstruction: Tensor
    edited: Tensor
    own_noise: bool


def edit(
    model: nn.Module, data: Data, pixels: Tensor, given: Mapping[str, Tensor], changed: Mapping[str, Tensor]
) -> Edit:
    """What images would be under changed conditions, in one batch.

    Args:
        pixels: Raw pixel values `(N, C, H, W)`.
        given: All fields of the images, as they are.
        changed: The conditions that change, as they are to be.

    Raises:
        HvdslError: A condition is missing or does not fit.
    """
    vae = as_vae(model)
    with inference(model) as device:
        true = {name: value.to(device) for name, value in given.items()}
        v = pixels.to(next(model.parameters()))
        abduction = Abduction(vae.LATENTS, len(v), device)
        before = vae(vae.input(v), abduction, **arguments_of(model, true))
        action = true | {name: value.to(device) for name, value in changed.items()}
        prediction = Prediction(vae.LATENTS, len(v), device, abduction.kept)
        after = vae(None, prediction, **arguments_of(model, action))
        old, new = vae.likelihood.location_scale(before), vae.likelihood.location_scale(after)
        if old is None or new is None:
            edited = vae.likelihood.mean(after)
        else:
            residual = (target_of(model, v, true).to(old[0]) - old[0]) / old[1]
            edited = torch.addcmul(new[0], new[1], residual)
        reconstruction = as_mean(to_pixels(vae, vae.likelihood.mean(before), data), data)
        out = as_mean if old is None else as_stored
        shown = out(to_pixels(vae, edited, data), data)
    return Edit(reconstruction.cpu(), shown.cpu(), own_noise=old is not None)


class Abduction(Traversal):
    """A pass under the true conditions that keeps what the priors do not explain.

    `kept`: by group the standardised part of z and yes; or z itself and no.
    """

    STATE = (*Traversal.STATE, "kept")

    def __init__(self, groups: Sequence[LatentGroup], batch: int, device: torch.device) -> None:
        super().__init__(groups, batch, sources=Source.POSTERIOR_MEAN, device=device)
        self.kept: dict[int, tuple[Tensor, bool]] = {}

    def __getitem__(self, place: int | slice) -> Draw | Traversal:  # type: ignore[override]
        view = super().__getitem__(place)
        return view if isinstance(view, Traversal) else _Abducted(self, self._range[cast("int", place)])


class _Abducted(Draw):
    __slots__ = ()

    def draw(
        self, prior: Distribution | UniformCodes, posterior: Distribution | Flowed | NearestCode | None = None
    ) -> Tensor:
        z = super().draw(prior, posterior)
        kept = (prior.standardized(z), True) if isinstance(prior, LocationScale) else (z, False)
        cast("Abduction", self._walk).kept.setdefault(self._group, kept)
        return z


class Prediction(Traversal):
    """A pass under the changed conditions, of what was kept."""

    STATE = (*Traversal.STATE, "kept")

    def __init__(
        self,
        groups: Sequence[LatentGroup],
        batch: int,
        device: torch.device,
        kept: Mapping[int, tuple[Tensor, bool]],
    ) -> None:
        super().__init__(groups, batch, sources=Source.PRIOR_MEAN, device=device)
        self.kept = kept

    def __getitem__(self, place: int | slice) -> Draw | Traversal:  # type: ignore[override]
        view = super().__getitem__(place)
        return view if isinstance(view, Traversal) else _Predicted(self, self._range[cast("int", place)])


class _Predicted(Draw):
    __slots__ = ()

    def draw(
        self, prior: Distribution | UniformCodes, posterior: Distribution | Flowed | NearestCode | None = None
    ) -> Tensor:
        value, standard = cast("Prediction", self._walk).kept[self._group]
        return prior.at(value) if standard and isinstance(prior, LocationScale) else value
