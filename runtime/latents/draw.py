"""The draw of one group in a traversal: where its value comes from, and that it is drawn once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hvdsl.runtime.distributions import Flowed, Normal
from hvdsl.runtime.latents.continuous import drawn_value
from hvdsl.runtime.latents.group import Given, LatentGroup, Source
from hvdsl.runtime.latents.outcome import Outcome
from hvdsl.runtime.latents.quantized import drawn_code

if TYPE_CHECKING:  # a traversal gives its draws
    from hvdsl.runtime.latents.traversal import Traversal
    from hvdsl.runtime.quantizers import NearestCode, UniformCodes  # a model without discrete latents needs none of it


class Draw:
    """The part of a traversal that belongs to one group."""

    __slots__ = ("_group", "walk")

    def __init__(self, walk: Traversal, group: int) -> None:
        self.walk, self._group = walk, group

    @property
    def group(self) -> LatentGroup:
        return self.walk.groups[self._group]

    @property
    def source(self) -> Source | Given:
        return self.walk.sources[self._group]

    @property
    def temperature(self) -> float:
        return self.walk.temperatures[self._group]

    @property
    def inferred(self) -> bool:
        """Whether z comes from the posterior, so that the model must compute it."""
        return self.source in (Source.POSTERIOR, Source.POSTERIOR_MEAN)

    def eps(self, like: Tensor) -> Tensor:
        """The group's standard normals, as `like`, the same whenever asked for."""
        return self.walk.eps(self._group, like)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers in [0, 1) of `shape` for each image, the same whenever asked for."""
        return self.walk.uniform(self._group, shape)

    def start(self, posterior: Normal) -> Tensor:
        """The posterior's own sample (or mean), `(N, Z, H, W)`: what a flow turns into z, or z drawn on the way up.

        On the way up also groups that come from elsewhere are asked, where the posterior of another depends on them
        (BIVA, Maaløe 2019): a given value is what it is; of a group that the prior draws later, inference sees the
        posterior's mean, so that the prior's noise stays its own.

        Raises:
            ValueError: the posterior has another shape than the group.
        """
        self.check(posterior, "posterior")
        if isinstance(self.source, Given):
            return self.source.z.to(posterior.mean)
        if self.source is not Source.POSTERIOR:
            return posterior.mean
        return posterior.sample(self.eps(posterior.mean))

    def draw(self, prior: Normal | UniformCodes, posterior: Normal | Flowed | NearestCode | None = None) -> Tensor:
        """z `(N, Z, H, W)`, from where the traversal says.

        The rate of a posterior that went through a flow has no closed form: it is log q - log p at z.

        Raises:
            ValueError: the posterior is needed and absent or of another family, a distribution has another shape than
                the group, or a given code is not one of the group's.
        """
        self.check(prior, "prior")
        if not isinstance(prior, Normal):
            return drawn_code(self, prior, posterior)
        if posterior is not None and not isinstance(posterior, Normal | Flowed):
            raise ValueError(f"group `{self.group.path}` has a continuous prior and a discrete posterior")
        return drawn_value(self, prior, posterior)

    def record(self, outcome: Outcome) -> bool:
        """Keep the first outcome of the group; says whether this was it."""
        return self.walk.record(self._group, outcome)

    def check(self, distribution: Normal | Flowed | UniformCodes | NearestCode, role: str) -> None:
        """Raise ValueError where a distribution has another shape than the group."""
        expected = (self.walk.batch, *self.group.shape)
        if tuple(distribution.shape) != expected:
            raise ValueError(
                f"the {role} of group `{self.group.path}` is {tuple(distribution.shape)}; expected {expected}"
            )
