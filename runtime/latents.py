"""The one walk over the latent groups that training, evaluation, sampling and reconstruction all are.

A model calls `latents[i].draw(prior, posterior)` for its group i, in order of generation. What comes of it (a
posterior sample, the prior's mean, a value that was given, …) is the `Traversal`'s business, and so is the noise.
Afterwards the traversal holds each group's z, log q, log p and rate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor

from hvdsl.runtime.distributions import Flowed, Normal
from hvdsl.runtime.noise import Noise, latent_stream

if TYPE_CHECKING:  # a model without discrete latents needs none of it
    from hvdsl.runtime.quantizers import NearestCode, Quantized, UniformCodes


@dataclass(frozen=True, slots=True)
class LatentGroup:
    """One latent variable: its name in the spec, its path in the model, its family, the shape `(Z, H, W)` of a draw.

    A discrete one has `codes` different values at each depth, and `depth` codes at each position.
    """

    name: str
    path: str
    family: str
    shape: tuple[int, int, int]
    codes: int | None = None
    depth: int = 1


class Source(Enum):
    """Where a group's z comes from."""

    POSTERIOR = "posterior sample"
    POSTERIOR_MEAN = "posterior mean"
    PRIOR = "prior sample"
    PRIOR_MEAN = "prior mean"


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A source that is the value itself, `(N, Z, H, W)`, or a discrete group's codes, `(N, depth, H, W)` integers."""

    z: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a group. Sums over the group are `(N,)`, in nats.

    `rate` is the information that z carries about the image: KL(q ‖ p), or log q - log p of the one sample. It is 0
    where z came from the prior, and unknown (None) where it was given. `log_q` and `log_p` are kept where the
    traversal was asked for `densities`. `rate_detail` is `(N,)`, `(N, Z)` or `(N, Z, H, W)`, as the traversal's
    `detail` says. A discrete group has `codes`, `(N, depth, H, W)` int64, unless z is no code (the prior's mean, a
    given vector), and where it was inferred also the losses of its quantizer, `commitment` and `codebook`, `(N,)`.
    """

    z: Tensor
    rate: Tensor | None
    rate_detail: Tensor | None
    log_q: Tensor | None
    log_p: Tensor | None
    codes: Tensor | None = None
    commitment: Tensor | None = None
    codebook: Tensor | None = None


Detail = Literal["latent", "channel", "element"]
Sources = Source | Given | Sequence[Source | Given]


class Traversal:
    """One pass over `groups` for a batch of images.

    Args:
        groups: the model's latent groups, in order of generation.
        batch: how many images, N.
        noise: random numbers for the groups that are sampled. None: nothing is sampled.
        sources: one for all groups or one for each.
        temperature: factor on the standard deviation of prior samples, one for all groups or one for each; not part of
            log p.
        kl: `closed`, the divergence itself; `sample`, log q - log p at the z that was drawn.
        densities: also keep log q and log p.
        detail: how finely rates are kept beside their sums.
        device: where the model computes; for the constants that it asks for.

    A draw is a pure function of its group. The noise is fixed when a group first asks for it and the first outcome is
    the one that is kept, so that running a part of the model again, as activation checkpointing does, changes nothing.
    Take a new traversal for each pass.

    Raises:
        ValueError: a number of sources or temperatures that is not the number of groups, a temperature below 0,
            a given value or noise of another batch or shape.
    """

    def __init__(
        self,
        groups: Sequence[LatentGroup],
        batch: int,
        noise: Noise | None = None,
        sources: Sources = Source.POSTERIOR,
        temperature: float | Sequence[float] = 1.0,
        *,
        kl: Literal["closed", "sample"] = "closed",
        densities: bool = False,
        detail: Detail = "latent",
        device: torch.device | str = "cpu",
    ) -> None:
        self.groups = tuple(groups)
        self.batch, self.noise, self.device = batch, noise, torch.device(device)
        self.kl, self.densities, self.detail = kl, densities or kl == "sample", detail
        self.sources = _sources(sources, self.groups, batch)
        self.temperatures = _temperatures(temperature, self.groups)
        if noise is not None and noise.batch != batch:
            raise ValueError(f"the noise is for {noise.batch} images, the batch has {batch}")
        self._range = range(len(self.groups))
        self._noise: list[Tensor | None] = [None] * len(self.groups)
        self._outcomes: list[Outcome | None] = [None] * len(self.groups)

    @classmethod
    def infer(
        cls,
        groups: Sequence[LatentGroup],
        batch: int,
        noise: Noise,
        *,
        kl: Literal["closed", "sample"] = "closed",
        densities: bool = False,
        detail: Detail = "latent",
        device: torch.device | str = "cpu",
    ) -> Traversal:
        """Every group from its posterior: training and evaluation."""
        return cls(groups, batch, noise, kl=kl, densities=densities, detail=detail, device=device)

    @classmethod
    def generate(
        cls,
        groups: Sequence[LatentGroup],
        batch: int,
        noise: Noise,
        temperature: float | Sequence[float] = 1.0,
        *,
        given: Sequence[Tensor] = (),
        device: torch.device | str = "cpu",
    ) -> Traversal:
        """The first groups from `given`, all others from their priors."""
        if len(given) > len(groups):
            raise ValueError(f"{len(given)} latents are given; the model has {len(groups)} groups")
        sources: list[Source | Given] = [Given(z) for z in given]
        sources += [Source.PRIOR] * (len(groups) - len(given))
        return cls(groups, batch, noise, sources, temperature, device=device)

    @classmethod
    def reconstruct(
        cls,
        groups: Sequence[LatentGroup],
        batch: int,
        noise: Noise | None = None,
        *,
        keep: int | None = None,
        kept: Literal["sample", "mean"] = "mean",
        rest: Literal["sample", "mean"] = "mean",
        temperature: float | Sequence[float] = 1.0,
        device: torch.device | str = "cpu",
    ) -> Traversal:
        """The first `keep` groups (None: all) from their posteriors, the rest from their priors."""
        keep = len(groups) if keep is None else keep
        if not 0 <= keep <= len(groups):
            raise ValueError(f"cannot keep {keep} groups; the model has {len(groups)}")
        first = Source.POSTERIOR if kept == "sample" else Source.POSTERIOR_MEAN
        last = Source.PRIOR if rest == "sample" else Source.PRIOR_MEAN
        sources = [first] * keep + [last] * (len(groups) - keep)
        return cls(groups, batch, noise, sources, temperature, device=device)

    @overload
    def __getitem__(self, place: int) -> Draw: ...
    @overload
    def __getitem__(self, place: slice) -> Traversal: ...
    def __getitem__(self, place: int | slice) -> Draw | Traversal:
        """The draw of one group, or a view of several; both numbered within this view."""
        if isinstance(place, slice):
            view = copy.copy(self)
            view._range = self._range[place]
            return view
        return Draw(self, self._range[place])

    def __len__(self) -> int:
        return len(self._range)

    @property
    def inferred(self) -> bool:
        """Whether any group of this view needs its posterior, and so the image."""
        return any(self[i].inferred for i in range(len(self)))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each group of this view, in order of generation.

        Raises:
            RuntimeError: a group was not drawn yet.
        """
        outcomes = []
        for i in self._range:
            outcome = self._outcomes[i]
            if outcome is None:
                raise RuntimeError(f"group `{self.groups[i].path}` was not drawn; run the model first")
            outcomes.append(outcome)
        return tuple(outcomes)

    @property
    def z(self) -> tuple[Tensor, ...]:
        """Each group's value, `(N, Z, H, W)`."""
        return tuple(outcome.z for outcome in self.outcomes)

    @property
    def rates(self) -> Tensor:
        """Each group's rate in nats, `(groups, N)`.

        Raises:
            RuntimeError: a group's value was given, so that its rate is unknown.
        """
        return torch.stack([_known(o.rate, g, "rate") for o, g in self._with_groups()])

    @property
    def log_weight(self) -> Tensor:
        """Σ log p(z) - log q(z) over the groups, `(N,)` nats: with log p(x | z), the importance weight of this pass.

        Raises:
            RuntimeError: the traversal was not asked for densities, or a group's value was given.
        """
        terms = [_known(o.log_p, g, "density") - _known(o.log_q, g, "density") for o, g in self._with_groups()]
        return torch.stack(terms).sum(0)

    def _with_groups(self) -> list[tuple[Outcome, LatentGroup]]:
        return list(zip(self.outcomes, (self.groups[i] for i in self._range), strict=True))

    def _eps(self, group: int, like: Tensor) -> Tensor:
        """The group's noise, as recorded when it was first asked for."""
        eps = self._noise[group]
        if eps is None:
            if self.noise is None:
                raise ValueError(f"group `{self.groups[group].path}` is sampled, but the traversal was given no noise")
            eps = self.noise.normal(latent_stream(group), self.groups[group].shape).to(like)
            self._noise[group] = eps
        return eps

    def _uniform(self, group: int, shape: Sequence[int]) -> Tensor:
        """Numbers in [0, 1) for a discrete group; a function of the noise, so that asking twice gives the same."""
        if self.noise is None:
            raise ValueError(f"group `{self.groups[group].path}` is sampled, but the traversal was given no noise")
        return self.noise.uniform(latent_stream(group), shape, 0.0, 1.0).to(self.device)


class Draw:
    """The part of a traversal that belongs to one group."""

    __slots__ = ("_group", "_walk")

    def __init__(self, walk: Traversal, group: int) -> None:
        self._walk, self._group = walk, group

    @property
    def inferred(self) -> bool:
        """Whether z comes from the posterior, so that the model must compute it."""
        return self._walk.sources[self._group] in (Source.POSTERIOR, Source.POSTERIOR_MEAN)

    def start(self, posterior: Normal) -> Tensor:
        """The posterior's own sample (or mean), `(N, Z, H, W)`: what a flow turns into z, or z drawn on the way up.

        On the way up also groups that come from elsewhere are asked, where the posterior of another depends on them
        (BIVA, Maaløe 2019): a given value is what it is; of a group that the prior draws later, inference sees the
        posterior's mean, so that the prior's noise stays its own.

        Raises:
            ValueError: the posterior has another shape than the group.
        """
        self._check(posterior, "posterior")
        source = self._walk.sources[self._group]
        if isinstance(source, Given):
            return source.z.to(posterior.mean)
        if source is not Source.POSTERIOR:
            return posterior.mean
        return posterior.sample(self._walk._eps(self._group, posterior.mean))

    def draw(self, prior: Normal | UniformCodes, posterior: Normal | Flowed | NearestCode | None = None) -> Tensor:
        """z `(N, Z, H, W)`, from where the traversal says.

        The rate of a posterior that went through a flow has no closed form: it is log q - log p at z.

        Raises:
            ValueError: the posterior is needed and absent or of another family, a distribution has another shape than
                the group, or a given code is not one of the group's.
        """
        self._check(prior, "prior")
        if not isinstance(prior, Normal):
            return self._draw_code(prior, posterior)
        if posterior is not None and not isinstance(posterior, Normal | Flowed):
            raise ValueError(f"group `{self._name}` has a continuous prior and a discrete posterior")
        return self._draw_value(prior, posterior)

    def _draw_value(self, prior: Normal, posterior: Normal | Flowed | None) -> Tensor:
        walk, source = self._walk, self._walk.sources[self._group]
        if isinstance(source, Given):
            z = source.z.to(prior.mean)
        elif source is Source.PRIOR_MEAN:
            z = prior.mean
        elif source is Source.PRIOR:
            z = prior.sample(walk._eps(self._group, prior.mean), walk.temperatures[self._group])
        else:
            z, posterior = self._inferred(posterior)
        self._record(self._outcome(z, prior, posterior if self.inferred else None, source))
        return z

    def _draw_code(self, prior: UniformCodes, posterior: Normal | Flowed | NearestCode | None) -> Tensor:
        """The same for a discrete group. Its quantizer learns of a batch when this pass first draws from it."""
        walk, source = self._walk, self._walk.sources[self._group]
        if self.inferred:
            if posterior is None or isinstance(posterior, Normal | Flowed):
                raise ValueError(f"group `{self._name}` takes its nearest code, but the model computed no posterior")
            self._check(posterior, "posterior")
            quantized = prior.quantizer.quantize(posterior)
            if self._record(self._code_outcome(quantized.value, prior, quantized.codes, source, quantized)):
                prior.quantizer.note(quantized)
            return quantized.value
        codes = None
        if isinstance(source, Given) and not source.z.is_floating_point():
            codes = source.z.to(walk.device)
        elif source is Source.PRIOR:
            codes = prior.sample(walk._uniform(self._group, prior.code_shape[1:]))
        if codes is not None:
            z = prior.quantizer.look_up(codes)
        elif isinstance(source, Given):
            z = source.z.to(walk.device)
        else:
            z = prior.mean
        self._record(self._code_outcome(z, prior, codes, source, None))
        return z

    def _record(self, outcome: Outcome) -> bool:
        """Keep the first outcome of the group; says whether this was it."""
        first = self._walk._outcomes[self._group] is None
        if first:
            self._walk._outcomes[self._group] = outcome
        return first

    def _inferred(self, posterior: Normal | Flowed | None) -> tuple[Tensor, Normal | Flowed]:
        if posterior is None:
            source = self._walk.sources[self._group]
            what = source.value if isinstance(source, Source) else "value"
            raise ValueError(f"group `{self._name}` takes its {what}, but the model computed no posterior")
        if isinstance(posterior, Flowed):
            self._check(posterior, "posterior")
            return posterior.z, posterior
        return self.start(posterior), posterior

    def _outcome(self, z: Tensor, prior: Normal, posterior: Normal | Flowed | None, source: Source | Given) -> Outcome:
        walk = self._walk
        log_p = prior.log_prob(z) if walk.densities else None
        if posterior is None:
            known = not isinstance(source, Given)
            rate = torch.zeros_like(z) if known else None
            log_q = log_p if known else None
        elif isinstance(posterior, Flowed):
            log_q = posterior.log_q
            rate = log_q - (prior.log_prob(z) if log_p is None else log_p)
        else:
            log_q = posterior.log_prob(z) if walk.densities else None
            rate = log_q - log_p if walk.kl == "sample" and log_q is not None and log_p is not None else None
            rate = posterior.kl(prior) if rate is None else rate
        return Outcome(
            z=z,
            rate=_summed(rate, "latent"),
            rate_detail=_summed(rate, walk.detail),
            log_q=_summed(log_q, "latent"),
            log_p=_summed(log_p, "latent"),
        )

    def _code_outcome(
        self, z: Tensor, prior: UniformCodes, codes: Tensor | None, source: Source | Given, found: Quantized | None
    ) -> Outcome:
        """A discrete posterior is certain: log q = 0, and its rate is the code's length under the prior."""
        walk, length = self._walk, prior.rate(z.detach())
        known = not isinstance(source, Given)
        rate = length if self.inferred else torch.zeros_like(length) if known else None
        log_q = torch.zeros_like(length) if self.inferred else -length if known else None
        return Outcome(
            z=z,
            rate=_summed(rate, "latent"),
            rate_detail=_summed(rate, walk.detail),
            log_q=_summed(log_q, "latent") if walk.densities else None,
            log_p=_summed(-length, "latent") if walk.densities else None,
            codes=codes,
            commitment=None if found is None else found.commitment,
            codebook=None if found is None else found.codebook,
        )

    def _check(self, distribution: Normal | Flowed | UniformCodes | NearestCode, role: str) -> None:
        expected = (self._walk.batch, *self._walk.groups[self._group].shape)
        if tuple(distribution.shape) != expected:
            raise ValueError(f"the {role} of group `{self._name}` is {tuple(distribution.shape)}; expected {expected}")

    @property
    def _name(self) -> str:
        return self._walk.groups[self._group].path


def _summed(values: Tensor | None, detail: Detail) -> Tensor | None:
    if values is None or detail == "element":
        return values
    return values.flatten(2).sum(2) if detail == "channel" else values.flatten(1).sum(1)


def _known(value: Tensor | None, group: LatentGroup, what: str) -> Tensor:
    if value is None:
        raise RuntimeError(
            f"the {what} of group `{group.path}` is unknown: its value was given, or no densities were asked for"
        )
    return value


def _sources(sources: Sources, groups: tuple[LatentGroup, ...], batch: int) -> tuple[Source | Given, ...]:
    if isinstance(sources, Source | Given):
        sources = [sources] * len(groups)
    if len(sources) != len(groups):
        raise ValueError(f"{len(sources)} sources are given; the model has {len(groups)} latent groups")
    for source, group in zip(sources, groups, strict=True):
        if not isinstance(source, Given):
            continue
        expected, what = (batch, *group.shape), "value"
        if group.codes is not None and not source.z.is_floating_point():
            expected, what = (batch, group.depth, *group.shape[1:]), "codes"
        if tuple(source.z.shape) != expected:
            verb = "are" if what == "codes" else "is"
            raise ValueError(
                f"the {what} given for group `{group.path}` {verb} {tuple(source.z.shape)}; expected {expected}"
            )
    return tuple(sources)


def _temperatures(temperature: float | Sequence[float], groups: tuple[LatentGroup, ...]) -> tuple[float, ...]:
    if isinstance(temperature, Iterable):
        temperatures = tuple(float(t) for t in temperature)
    else:
        temperatures = (float(temperature),) * len(groups)
    if len(temperatures) != len(groups):
        raise ValueError(
            f"{len(temperatures)} temperatures are given; the model has {len(groups)} latent groups: "
            "give one, or one for each"
        )
    for t in temperatures:
        if not (math.isfinite(t) and t >= 0):
            raise ValueError(f"a temperature is a number of at least 0, not {t}")
    return temperatures
