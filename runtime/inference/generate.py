"""Images from a model: samples, and what more and more of the hierarchy keeps of given images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise, derive_seed
from hvdsl.runtime.ground.pixels import as_mean, as_stored
from hvdsl.runtime.inference.inference import chunks, inference, some, to_pixels
from hvdsl.runtime.latents import Condition, Given, Source, Traversal
from hvdsl.runtime.latents.conditions import Rows, absent, arguments_of, blank, conditions_of, without
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.protocol import HierarchicalVae, as_vae, is_quantized

_Rows = TypeVar("_Rows", bound=Rows)

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
    given: Mapping[str, Tensor] = MappingProxyType({}),
    guidance: float | None = None,
) -> Tensor:
    """Draw `n` images: raw pixel values `(n, C, H, W)` in float32 on the CPU, whole numbers or as `as_mean` says.

    Image i depends on (seed, i) alone, never on `batch` or `n`.

    Args:
        temperature: Factor on the standard deviation of each prior: one for all groups, or one for each in order of
            generation. The likelihood is sampled at temperature 1.
        decode: Draw from the likelihood, or take its mean.
        given: What the model is conditioned on, by name, `(n, …)`; what may be left out may be absent.
        guidance: w of classifier-free guidance (Ho & Salimans 2022): each prior's parameters are u + w (c - u) of those
            without conditions u and with them c. 1 is plain, 0 without conditions.

    Raises:
        HvdslError: The temperature is negative, or not one for each group; a condition is missing or does not fit; or
            guidance is asked for where nothing was ever left out.
    """
    parts = [
        sample_batch(
            model,
            data,
            indices,
            temperature=temperature,
            seed=seed,
            decode=decode,
            given=some(given, indices),
            guidance=guidance,
        )
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
    given: Mapping[str, Tensor] = MappingProxyType({}),
    guidance: float | None = None,
) -> Tensor:
    """Draw the images of these numbers in one pass; see `sample`.

    Args:
        fixed: Values `(N, Z, H, W)` of some groups, by their place in the order of generation.

    Raises:
        HvdslError: As `sample`; or a fixed value has another shape than its group.
    """
    vae, noise_seed = as_vae(model), derive_seed(seed, "sampling noise")
    given = completed(model, given, len(indices))
    if guidance is not None:
        given, guidance = guided(model, given, guidance)
    held = {place: Given(value) for place, value in (fixed or {}).items()}
    sources: list[Source | Given] = [held.get(place, Source.PRIOR) for place in range(len(vae.LATENTS))]
    if guidance is not None:
        bare = without(conditions_of(model), given)
        given = {name: torch.cat((value, bare[name])) for name, value in given.items()}
    with inference(model) as device:
        noise = image_noise(model, vae.LATENTS, noise_seed, indices, device=device)
        own = {name: value.to(device) for name, value in arguments_of(model, given).items()}
        try:
            latents = Traversal(
                vae.LATENTS, len(indices), noise, sources, temperature, guidance=guidance, device=device
            )
        except ValueError as error:
            raise HvdslError(str(error)) from error
        params = vae(None, latents, **own)[: len(indices)]  # under guidance the half with conditions
        decoded = decode_image(vae, params, noise, decode)
        out = as_mean if decode == "mean" else as_stored
        return out(to_pixels(vae, decoded, data), data).cpu()


def completed(model: nn.Module, given: Mapping[str, _Rows], count: int) -> dict[str, _Rows | Tensor]:
    """What a model is conditioned on, for so many images: what is not given and may be left out is left out.

    Raises:
        HvdslError: A condition is missing.
    """
    values: dict[str, _Rows | Tensor] = dict(given)
    for condition in conditions_of(model):
        if condition.name not in values:
            if not condition.droppable and condition.generative:
                raise HvdslError(
                    f"the model is conditioned on `{condition.name}`: say which with `--given {condition.name}=…`"
                )
            values[condition.name] = absent(condition, count) if condition.droppable else blank(condition, count)
    return values


def guided(model: nn.Module, given: Mapping[str, Tensor], guidance: float) -> tuple[dict[str, Tensor], float | None]:
    """Conditions and guidance of a pass: one with weight 1 is a plain pass, one with 0 is one without conditions.

    Raises:
        HvdslError: Nothing was left out in training, so that the model does not know what it is without conditions; or
            its codes are drawn uniformly.
    """
    uniform = next((group.path for group in as_vae(model).LATENTS if group.quantized), None)
    if uniform is not None:
        raise HvdslError(
            f"--guidance: the codes of `{uniform}` are equally likely without a prior over them: train one"
        )
    conditions = conditions_of(model)
    check_guidance(conditions, guidance)
    if guidance == 0:
        return without(conditions, given), None
    return dict(given), None if guidance == 1 else guidance


def check_guidance(conditions: Sequence[Condition], guidance: float) -> None:
    """Refuse to guide a model that was never trained without its conditions.

    Raises:
        HvdslError: Nothing was left out in training; or the weight is no number.
    """
    if not any(condition.droppable for condition in conditions):
        named = next((condition.name for condition in conditions), None)
        line = f"`given {named} = … {{ drop = 0.1 }}`" if named else "`given label = … { drop = 0.1 }`"
        raise HvdslError(
            f"--guidance needs a model that was also trained without its conditions: write {line} in `data`, and train"
        )
    if not math.isfinite(guidance):
        raise HvdslError(f"--guidance is a number, not {guidance}")


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
    given: Mapping[str, Tensor] = MappingProxyType({}),
) -> list[Tensor]:
    """The images as the first `keep[i]` latent groups know them, raw pixel values `(N, C, H, W)`, one tensor per entry.

    Those groups take their posterior mean; the rest are drawn from their priors at `temperature`, as in the figures of
    VDVAE (Child 2021, figure 4). Codes drawn uniformly would be noise: of a model of codes the rest is the mean code.

    Args:
        pixels: Raw pixel values `(N, C, H, W)`.
        first: The number of the first of them, which is what noise is drawn by.
        given: What the model is conditioned on, by name.

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
        x, own = vae.input(v), arguments_of(model, {name: value.to(device) for name, value in given.items()})
        for kept in keep:
            latents = Traversal.reconstruct(
                vae.LATENTS, len(pixels), noise, keep=kept, rest=rest, temperature=temperature, device=device
            )
            decoded = decode_image(vae, vae(x, latents, **own), noise, decode)
            rows.append(to_pixels(vae, decoded, data).cpu())
    return rows
