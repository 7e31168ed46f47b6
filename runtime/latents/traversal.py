"""The one walk over the latent groups that training, evaluation, sampling and reconstruction all are.

A model calls `latents[i].draw(prior, posterior)` for its group i, in order of generation. What comes of it (a
posterior sample, the prior's mean, a value that was given, …) is the `Traversal`'s business, and so is the noise.
Afterwards the traversal holds each group's z, log q, log p and rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, overload

import torch
from torch import Tensor, nn

from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.ground.noise import Noise, latent_stream
from hvdsl.runtime.latents.group import (
    Given,
    LatentGroup,
    Source,
    Sources,
    checked_sources,
    checked_temperatures,
)
from hvdsl.runtime.latents.outcome import (
    Detail,
    Keeping,
    Origin,
    Outcome,
    known,
    outcome_of_codes,
    outcome_of_value,
)

if TYPE_CHECKING:  # a model without discrete latents needs none of it
    from hvdsl.runtime.quantizers import NearestCode, UniformCodes


class Traversal:
    """One pass over `groups` for a batch of images.

    Args:
        groups: the model's latent groups, in order of generation.
        batch: how many images, N.
        noise: random numbers for the groups that are sampled. None: nothing is sampled.
        sources: one for all groups or one for each.
        temperature: factor on the scale of prior samples, divisor of the logits of bits and classes; one for all groups
            or one for each; not part of log p.
        kl: `closed`, the divergence itself where it has a closed form; `sample`, log q - log p at the z that was drawn.
        densities: also keep log q and log p.
        detail: how finely rates are kept beside their sums.
        guidance: w of classifier-free guidance: the batch is twice as long, its second half without conditions. Each
            prior is mixed of both, and both halves go on with the same z.
        device: where the model computes; for the constants that it asks for (see `begin`).

    A draw is a pure function of its group. The noise is fixed when a group first asks for it and the first outcome is
    the one that is kept, so that running a part of the model again, as activation checkpointing does, changes nothing.
    Take a new traversal for each pass.

    Raises:
        ValueError: a number of sources or temperatures that is not the number of groups, a temperature below 0,
            a given value or noise of another batch or shape.
    """

    STATE: ClassVar[tuple[str, ...]] = (  # what a view of some groups has of the whole
        "groups", "sources", "temperatures", "guidance", "images", "batch", "noise", "device", "dtype", "keeping",
        "_noise", "_outcomes",
    )  # fmt: skip

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
        guidance: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.groups = tuple(groups)
        self.guidance, self.images = guidance, batch
        if guidance is not None:
            batch = 2 * batch
        self.batch, self.noise, self.device, self.dtype = batch, noise, torch.device(device), torch.float32
        self.keeping = Keeping(kl, densities or kl == "sample", detail)
        self.sources = checked_sources(sources, self.groups, self.images)
        self.temperatures = checked_temperatures(temperature, self.groups)
        if noise is not None and noise.batch != self.images:
            raise ValueError(f"the noise is for {noise.batch} images, the batch has {self.images}")
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
        guidance: float | None = None,
        device: torch.device | str = "cpu",
    ) -> Traversal:
        """The first groups from `given`, all others from their priors; under `guidance`, from mixed ones."""
        if len(given) > len(groups):
            raise ValueError(f"{len(given)} latents are given; the model has {len(groups)} groups")
        sources: list[Source | Given] = [Given(z) for z in given]
        sources += [Source.PRIOR] * (len(groups) - len(given))
        return cls(groups, batch, noise, sources, temperature, guidance=guidance, device=device)

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

    def begin(self, model: nn.Module, x: Tensor | None) -> None:
        """Begin a pass of `model` for the image `x`: constants get the type and device of its parameters.

        Raises:
            ValueError: there is no image and some group needs one, or image and traversal are of different batches, or
                the model has other groups.
        """
        own = getattr(model, "LATENTS", self.groups)
        if len(own) != len(self.groups):
            raise ValueError(f"the traversal is of {len(self.groups)} groups, the model has {len(own)}")
        if x is None:
            for group, source in zip(self.groups, self.sources, strict=True):
                if source in (Source.POSTERIOR, Source.POSTERIOR_MEAN):
                    raise ValueError(
                        f"group `{group.path}` takes its {source.value}, which needs an image: give one, or generate "
                        "with `Traversal.generate(model.LATENTS, N, noise)`"
                    )
        elif x.shape[0] != self.batch:
            raise ValueError(f"the traversal is of {self.batch} images, the batch has {x.shape[0]}")
        parameter = next(model.parameters(), None)
        if parameter is not None:
            self.dtype, self.device = parameter.dtype, parameter.device

    @overload
    def __getitem__(self, place: int) -> Draw: ...
    @overload
    def __getitem__(self, place: slice) -> Traversal: ...
    def __getitem__(self, place: int | slice) -> Draw | Traversal:
        """The draw of one group, or a view of several; both numbered within this view."""
        if isinstance(place, slice):
            view = object.__new__(type(self))  # attribute by attribute: torch 2.11 cannot compile `copy.copy`
            for name in self.STATE:
                setattr(view, name, getattr(self, name))
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
        return torch.stack([known(o.rate, g, "rate") for o, g in self._with_groups()])

    @property
    def log_weight(self) -> Tensor:
        """Σ log p(z) - log q(z) over the groups, `(N,)` nats: with log p(x | z), the importance weight of this pass.

        Raises:
            RuntimeError: the traversal was not asked for densities, or a group's value was given.
        """
        terms = [known(o.log_p, g, "density") - known(o.log_q, g, "density") for o, g in self._with_groups()]
        return torch.stack(terms).sum(0)

    def record(self, group: int, outcome: Outcome) -> bool:
        """Keep the first outcome of group number `group`; says whether this was it."""
        first = self._outcomes[group] is None
        if first:
            self._outcomes[group] = outcome
        return first

    def _with_groups(self) -> list[tuple[Outcome, LatentGroup]]:
        return list(zip(self.outcomes, (self.groups[i] for i in self._range), strict=True))

    def noise_of(self, group: int, distribution: Distribution) -> Tensor:
        """What group number `group` draws `distribution` from, as recorded when first asked for.

        Raises:
            ValueError: the traversal has no noise.
        """
        noise = self._noise[group]
        if noise is None:
            if self.noise is None:
                raise ValueError(f"group `{self.groups[group].path}` is sampled, but the traversal was given no noise")
            drawn = distribution.noise(self.noise, latent_stream(group), self.groups[group].shape)
            noise = self._noise[group] = drawn.to(distribution.mode)
        return noise

    def uniform(self, group: int, shape: Sequence[int]) -> Tensor:
        """Numbers in [0, 1) for a discrete group; a function of the noise, so that asking twice gives the same.

        Raises:
            ValueError: the traversal has no noise.
        """
        if self.noise is None:
            raise ValueError(f"group `{self.groups[group].path}` is sampled, but the traversal was given no noise")
        return self.noise.uniform(latent_stream(group), shape, 0.0, 1.0).to(self.device)


class Draw:
    """The part of a traversal that belongs to one group."""

    __slots__ = ("_group", "_walk")

    def __init__(self, walk: Traversal, group: int) -> None:
        self._walk, self._group = walk, group

    @property
    def group(self) -> LatentGroup:
        return self._walk.groups[self._group]

    @property
    def source(self) -> Source | Given:
        return self._walk.sources[self._group]

    @property
    def temperature(self) -> float:
        return self._walk.temperatures[self._group]

    @property
    def inferred(self) -> bool:
        """Whether z comes from the posterior, so that the model must compute it."""
        return self.source in (Source.POSTERIOR, Source.POSTERIOR_MEAN)

    @property
    def origin(self) -> Origin:
        """Where z is from."""
        return "given" if isinstance(self.source, Given) else "inferred" if self.inferred else "generated"

    def noise(self, distribution: Distribution) -> Tensor:
        """What a draw of the distribution takes, the same whenever asked for.

        Raises:
            ValueError: the traversal has no noise.
        """
        return self._walk.noise_of(self._group, distribution)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers in [0, 1) of `shape` for each image, the same whenever asked for."""
        return self._walk.uniform(self._group, shape)

    def start(self, posterior: Distribution) -> Tensor:
        """The posterior's own sample (or its mode), `(N, Z, H, W)`: z, or what a flow turns into z.

        Raises:
            ValueError: the posterior has another shape than the group, or the traversal has no noise to sample it.
        """
        self.check(posterior, "posterior")
        if self.source is not Source.POSTERIOR:
            return posterior.mode
        return posterior.sample(self.noise(posterior))

    def infer(self, posterior: Distribution | Flowed) -> Tensor:
        """z `(N, Z, H, W)` as inference sees it, where it is drawn on the way up.

        There also groups that come from elsewhere are asked, since the posterior of another may depend on them (BIVA,
        Maaløe 2019): a given value is what it is; of a group that the prior draws later, inference sees the posterior's
        mode, so that the prior's noise stays its own.

        Raises:
            ValueError: as `start`.
        """
        if isinstance(self.source, Given):
            base = posterior.base if isinstance(posterior, Flowed) else posterior
            return base.value(self.source.z)
        return self._inferred(posterior)

    def draw(
        self, prior: Distribution | UniformCodes, posterior: Distribution | Flowed | NearestCode | None = None
    ) -> Tensor:
        """z `(N, Z, H, W)`, from where the traversal says.

        Raises:
            ValueError: the posterior is needed and absent or of another family, a distribution has another shape than
                the group, or a given code is not one of the group's.
        """
        self.check(prior, "prior")
        if not isinstance(prior, Distribution):
            return self._code(prior, posterior)
        if posterior is not None:
            base = posterior.base if isinstance(posterior, Flowed) else posterior
            if not isinstance(posterior, Distribution | Flowed) or not isinstance(base, type(prior)):
                raise ValueError(
                    f"the prior of group `{self.group.path}` is a {type(prior).__name__}, "
                    f"its posterior a {type(base).__name__}"
                )
        return self._value(prior, posterior)

    def check(self, distribution: Distribution | Flowed | UniformCodes | NearestCode, role: str) -> None:
        """Raise ValueError where a distribution has another shape than the group."""
        expected = (self._walk.batch, *self.group.shape)
        if tuple(distribution.shape) != expected:
            raise ValueError(
                f"the {role} of group `{self.group.path}` is {tuple(distribution.shape)}; expected {expected}"
            )

    def _value(self, prior: Distribution, posterior: Distribution | Flowed | None) -> Tensor:
        """z of a group whose prior is a distribution."""
        source, guidance = self.source, self._walk.guidance
        if guidance is not None:
            z = self._drawn(prior.mixed(guidance)).repeat(2, 1, 1, 1)
            self._walk.record(self._group, outcome_of_value(z, prior, None, self.origin, self._walk.keeping))
            return z
        if isinstance(source, Given) or source in (Source.PRIOR, Source.PRIOR_MEAN):
            z = self._drawn(prior)
        elif posterior is None:
            raise ValueError(f"group `{self.group.path}` takes its {source.value}, but the model computed no posterior")
        else:
            z = self._inferred(posterior)
        used = posterior if self.inferred else None
        self._walk.record(self._group, outcome_of_value(z, prior, used, self.origin, self._walk.keeping))
        return z

    def _drawn(self, prior: Distribution) -> Tensor:
        """A draw from the prior, its mode, or what is given in its place."""
        if isinstance(self.source, Given):
            return prior.value(self.source.z)
        if self.source is Source.PRIOR_MEAN:
            return prior.mode
        if self.source is not Source.PRIOR:
            raise ValueError(f"group `{self.group.path}` takes its {self.source.value}, and guidance is of generation")
        return prior.sample(self.noise(prior), self.temperature)

    def _inferred(self, posterior: Distribution | Flowed) -> Tensor:
        if isinstance(posterior, Flowed):
            self.check(posterior, "posterior")
            return posterior.z
        return self.start(posterior)

    def _code(self, prior: UniformCodes, posterior: Distribution | Flowed | NearestCode | None) -> Tensor:
        """z of a quantized group. The quantizer learns of a batch when this pass first draws from it."""
        source, walk = self.source, self._walk
        if walk.guidance is not None:
            raise ValueError(f"group `{self.group.path}` has equally likely codes, which no conditions can guide")
        if self.inferred:
            if posterior is None or isinstance(posterior, Distribution | Flowed):
                raise ValueError(
                    f"group `{self.group.path}` takes its nearest code, but the model computed no posterior"
                )
            self.check(posterior, "posterior")
            quantized = prior.quantizer.quantize(posterior)
            outcome = outcome_of_codes(quantized.value, prior, quantized.codes, quantized, self.origin, walk.keeping)
            if walk.record(self._group, outcome):
                prior.quantizer.note(quantized)
            return quantized.value
        codes = None
        if isinstance(source, Given) and not source.z.is_floating_point():
            codes = source.z.to(walk.device)
        elif source is Source.PRIOR:
            codes = prior.sample(self.uniform(prior.code_shape[1:]))
        if codes is not None:
            z = prior.quantizer.look_up(codes)
        elif isinstance(source, Given):
            z = source.z.to(walk.device)
        else:
            z = prior.mean
        z = z.to(walk.device, walk.dtype)  # a quantizer without tensors knows neither
        walk.record(self._group, outcome_of_codes(z, prior, codes, None, self.origin, walk.keeping))
        return z
