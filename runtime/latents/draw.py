"""The draw of one group in a traversal: where its value comes from, and that it is drawn once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.latents.group import Given, LatentGroup, Source
from hvdsl.runtime.latents.outcome import Outcome
from hvdsl.runtime.latents.quantized import drawn_code
from hvdsl.runtime.latents.sampled import drawn_value

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

    def noise(self, distribution: Distribution) -> Tensor:
        """What a draw of the distribution takes, the same whenever asked for.

        Raises:
            ValueError: the traversal has no noise.
        """
        return self.walk.noise_of(self._group, distribution)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers in [0, 1) of `shape` for each image, the same whenever asked for."""
        return self.walk.uniform(self._group, shape)

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
        if isinstance(posterior, Flowed):
            self.check(posterior, "posterior")
            return posterior.z
        return self.start(posterior)

    def draw(
        self, prior: Distribution | UniformCodes, posterior: Distribution | Flowed | NearestCode | None = None
    ) -> Tensor:
        """z `(N, Z, H, W)`, from where the traversal says.

        The rate of a posterior that went through a flow has no closed form: it is log q - log p at z.

        Raises:
            ValueError: the posterior is needed and absent or of another family, a distribution has another shape than
                the group, or a given code is not one of the group's.
        """
        self.check(prior, "prior")
        if not isinstance(prior, Distribution):
            return drawn_code(self, prior, posterior)
        if posterior is not None:
            base = posterior.base if isinstance(posterior, Flowed) else posterior
            if not isinstance(posterior, Distribution | Flowed) or not isinstance(base, type(prior)):
                raise ValueError(
                    f"the prior of group `{self.group.path}` is a {type(prior).__name__}, "
                    f"its posterior a {type(base).__name__}"
                )
        return drawn_value(self, prior, posterior)

    def record(self, outcome: Outcome) -> bool:
        """Keep the first outcome of the group; says whether this was it."""
        return self.walk.record(self._group, outcome)

    def check(self, distribution: Distribution | Flowed | UniformCodes | NearestCode, role: str) -> None:
        """Raise ValueError where a distribution has another shape than the group."""
        expected = (self.walk.batch, *self.group.shape)
        if tuple(distribution.shape) != expected:
            raise ValueError(
                f"the {role} of group `{self.group.path}` is {tuple(distribution.shape)}; expected {expected}"
            )
