"""The latents of images, group by group, and images from latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, cast, overload

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.codes.levels import Level, check_fit
from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.distributions.location_scale import LocationScale
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.inference.generate import completed
from hvdsl.runtime.inference.inference import chunks, inference, some, to_pixels
from hvdsl.runtime.latents import Given, LatentGroup, Source, Traversal
from hvdsl.runtime.latents.conditions import arguments_of, conditions_of
from hvdsl.runtime.latents.group import default_temperatures
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.latents.traversal import Draw
from hvdsl.runtime.protocol import HierarchicalVae, as_vae
from hvdsl.workflows.conditions import GivenValue, values_of
from hvdsl.workflows.groups import group_names
from hvdsl.workflows.images import as_pixels
from hvdsl.workflows.open import Opened
from hvdsl.workflows.runs import class_names

if TYPE_CHECKING:
    from hvdsl.runtime.quantizers import NearestCode, UniformCodes

Posterior = Distribution | Flowed


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GroupLatents:
    """What the posterior of one latent group says of N images, given the groups before it.

    Attributes:
        name: as in the spec, or the path in the model where the spec draws it in several places.
        family: `normal`, `laplace`, `codebook`, …
        z: the value that the model goes on with, `(N, Z, H, W)`; where there is a flow, after it.
        rate: KL(q ‖ p) of each image, `(N,)` nats.
        mean: of the posterior, `(N, Z, H, W)`, before its flow; None where it has none, as classes and codes do.
        scale: the posterior's standard deviation (normal) or scale, `(N, Z, H, W)`, before its flow, or None.
        codes: of a discrete group `(N, H, W)`, or `(N, depth, H, W)` where there are several at a position, int64.
    """

    name: str
    family: str
    z: Tensor
    rate: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None
    codes: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """What `decode` takes: the codes where there are some, else z."""
        return self.z if self.codes is None else self.codes

    def __repr__(self) -> str:
        shape, rate = "x".join(map(str, self.value.shape)), self.rate.mean().item()
        return f"<{self.name}: {self.family} {shape}, {rate:.3f} nats/image>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Latents:
    """The latents of N images: a sequence of groups in order of generation, also by name."""

    groups: tuple[GroupLatents, ...]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[GroupLatents]:
        return iter(self.groups)

    @overload
    def __getitem__(self, place: int | str) -> GroupLatents: ...
    @overload
    def __getitem__(self, place: slice) -> Latents: ...
    def __getitem__(self, place: int | str | slice) -> GroupLatents | Latents:
        """A group by its place or name; several by a slice."""
        if isinstance(place, slice):
            return Latents(self.groups[place])
        if isinstance(place, int):
            return self.groups[place]
        known = {group.name: group for group in self.groups}
        if place not in known:
            raise HvdslError(f"there is no latent group `{place}`; there are {', '.join(known)}")
        return known[place]

    @property
    def rates(self) -> Tensor:
        """`(N, groups)` nats."""
        return torch.stack([group.rate for group in self.groups], 1)

    @property
    def values(self) -> dict[str, Tensor]:
        """What `decode` takes, by group: z, or codes."""
        return {group.name: group.value for group in self.groups}

    def __repr__(self) -> str:
        images = len(self.groups[0].rate) if self.groups else 0
        total = self.rates.sum(1).mean().item() if self.groups else 0.0
        return f"<hvdsl.Latents of {images} images: {len(self)} groups, {total:.3f} nats/image>"


class _ObservedTraversal(Traversal):
    """A traversal that also keeps the posterior of each group."""

    STATE = (*Traversal.STATE, "posteriors")
    posteriors: dict[int, Posterior]

    def __getitem__(self, place: int | slice) -> Draw | Traversal:  # type: ignore[override]  # two overloads there
        view = super().__getitem__(place)
        return view if isinstance(view, Traversal) else _ObservedDraw(self, self._range[cast("int", place)])


class _ObservedDraw(Draw):
    __slots__ = ()

    def draw(
        self, prior: Distribution | UniformCodes, posterior: Distribution | Flowed | NearestCode | None = None
    ) -> Tensor:
        if isinstance(posterior, Distribution | Flowed) and isinstance(self._walk, _ObservedTraversal):
            self._walk.posteriors.setdefault(self._group, posterior)
        return super().draw(prior, posterior)


def infer(
    module: nn.Module,
    pixels: Tensor,
    *,
    sample: bool,
    seed: int,
    batch: int,
    first: int = 0,
    given: Mapping[str, Tensor] = MappingProxyType({}),
) -> Latents:
    """Return what the posteriors say of images.

    Args:
        pixels: raw pixel values `(N, C, H, W)`.
        sample: draw each z from its posterior; otherwise take its mean (of bits, classes and codes the most probable).
        first: the number of the first image, which is what noise is drawn by.
        given: the fields beside the images.
    """
    vae, noise_seed = as_vae(module), derive_seed(seed, "evaluation noise")
    source = Source.POSTERIOR if sample else Source.POSTERIOR_MEAN
    parts = []
    with inference(module) as device:
        for indices in chunks(range(first, first + len(pixels)), batch):
            noise = image_noise(module, vae.LATENTS, noise_seed, indices, device=device)
            walk = _ObservedTraversal(vae.LATENTS, len(indices), noise, source, device=device)
            walk.posteriors = {}
            part = range(indices.start - first, indices.stop - first)
            x = vae.input(pixels[part.start : part.stop].to(device))
            vae(x, walk, **{n: t.to(device) for n, t in arguments_of(module, some(given, part)).items()})
            parts.append(_groups(vae.LATENTS, walk))
    return Latents(tuple(_joined(groups) for groups in zip(*parts, strict=True)))


def _groups(groups: Sequence[LatentGroup], walk: _ObservedTraversal) -> list[GroupLatents]:
    latents = []
    rates = walk.rates.double().cpu()
    for place, (name, group, outcome) in enumerate(zip(group_names(groups), groups, walk.outcomes, strict=True)):
        posterior = walk.posteriors.get(place)
        base = posterior.base if isinstance(posterior, Flowed) else posterior
        scaled = base if isinstance(base, LocationScale) else None
        codes = outcome.codes
        latents.append(
            GroupLatents(
                name,
                group.family,
                outcome.z.cpu(),
                rates[place],
                mean=None if scaled is None else scaled.mean.cpu(),
                scale=None if scaled is None else scaled.scale.cpu(),
                codes=None if codes is None else codes.reshape(len(codes), *_level(name, group).shape).cpu(),
            )
        )
    return latents


def _joined(parts: Sequence[GroupLatents]) -> GroupLatents:
    """The batches of one group as one; outside of inference mode, so that its tensors may go into a graph."""

    def join(tensors: Sequence[Tensor | None]) -> Tensor | None:
        known = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(known) if known else None

    return replace(
        parts[0],
        z=torch.cat([part.z for part in parts]),
        rate=torch.cat([part.rate for part in parts]),
        mean=join([part.mean for part in parts]),
        scale=join([part.scale for part in parts]),
        codes=join([part.codes for part in parts]),
    )


def decode(
    module: nn.Module,
    data: Data,
    latents: Mapping[str, Tensor] | Latents,
    *,
    temperature: float | Sequence[float],
    seed: int,
    batch: int,
    given: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor:
    """Return the likelihood's mean under the given latents, raw pixel values `(N, C, H, W)`.

    Groups that are not given are drawn from their priors.

    Raises:
        HvdslError: there is no such group, a value has another shape, or codes are missing.
    """
    vae = as_vae(module)
    values = latents.values if isinstance(latents, Latents) else dict(latents)
    count = _check(vae, values)
    given = completed(module, given, count)
    noise_seed = derive_seed(seed, "sampling noise")
    images = []
    with inference(module) as device:
        for indices in chunks(range(count), batch):
            sources = [
                _source(group, values.get(name), indices)
                for name, group in zip(group_names(vae.LATENTS), vae.LATENTS, strict=True)
            ]
            noise = image_noise(module, vae.LATENTS, noise_seed, indices, device=device)
            try:
                walk = Traversal(vae.LATENTS, len(indices), noise, sources, temperature, device=device)
            except ValueError as error:
                raise HvdslError(str(error)) from error
            own = {n: t.to(device) for n, t in arguments_of(module, some(given, indices)).items()}
            images.append(to_pixels(vae, vae.likelihood.mean(vae(None, walk, **own)), data).cpu())
    return torch.cat(images)


def decode_latents(
    opened: Opened,
    latents: Mapping[str, Tensor] | Latents,
    *,
    temperature: float | None,
    seed: int,
    batch: int,
    given: Mapping[str, GivenValue] | None,
) -> Tensor:
    """Return the images of latents, pixels `(N, C, H, W)`; see `Trained.decode`.

    Raises:
        HvdslError: as `decode`, or a condition does not fit.
    """
    module, settings = opened.module, opened.spec.model.settings
    own = default_temperatures(as_vae(module).LATENTS, settings.sample.temperature)
    values = latents.values if isinstance(latents, Latents) else dict(latents)
    count, names = _check(as_vae(module), values), class_names(opened.run)
    fields = values_of(conditions_of(module), given or {}, count, opened.data, names, generating=True)
    factor = own if temperature is None else temperature
    images = decode(module, opened.data, latents, temperature=factor, seed=seed, batch=batch, given=fields)
    return as_pixels(images, opened.data, mean=True)


def _source(group: LatentGroup, value: Tensor | None, indices: range) -> Source | Given:
    if value is None:
        return Source.PRIOR
    return Given(given_value(group, value[indices.start : indices.stop]))


def given_value(group: LatentGroup, value: Tensor) -> Tensor:
    """Values or codes of a group, as `encode` gives them, as a traversal takes them."""
    if group.codes is not None and not value.is_floating_point():
        return value.long().reshape(len(value), group.depth, *group.shape[1:])
    return value


def _check(vae: HierarchicalVae, values: Mapping[str, Tensor]) -> int:
    """Refuse latents that are not the model's; returns how many images they are of."""
    groups = dict(zip(group_names(vae.LATENTS), vae.LATENTS, strict=True))
    unknown = next((name for name in values if name not in groups), None)
    if unknown is not None:
        raise HvdslError(f"the model has no latent group `{unknown}`; it has {', '.join(groups)}")
    if not values:
        raise HvdslError(f"no latents are given to decode; the groups are {', '.join(groups)}")
    coded = {n: g for n, g in groups.items() if g.quantized or (g.codes is not None and _whole(values.get(n)))}
    check_fit(values, [_level(name, group) for name, group in coded.items()], "what is to be decoded")
    for name, value in values.items():
        if name not in coded and tuple(value.shape[1:]) != groups[name].shape:
            shape = ", ".join(map(str, groups[name].shape))
            raise HvdslError(f"the latents given for `{name}` are {tuple(value.shape)}; expected (N, {shape})")
    counts = {name: len(value) for name, value in values.items()}
    if len(set(counts.values())) > 1:
        raise HvdslError(f"the latents are of different numbers of images: {counts}")
    return next(iter(counts.values()))


def _whole(value: Tensor | None) -> bool:
    return value is not None and not value.is_floating_point()


def _level(name: str, group: LatentGroup) -> Level:
    return Level(name, group.codes or 0, group.shape[1:], group.depth)
