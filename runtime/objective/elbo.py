"""The evidence lower bound and its terms by name.

With distortion D = -log p(x | z) and the rate R_l of latent group l, the negative ELBO of an image is D + Σ R_l.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, nn

from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.noise import JoinedNoise, Noise
from hvdsl.runtime.latents import LatentGroup, Traversal
from hvdsl.runtime.likelihoods import Likelihood


@dataclass(frozen=True, slots=True, eq=False)
class ModelBatch:
    """What one pass of a model takes: a whole batch, or a piece of it under gradient accumulation.

    Attributes:
        x: What the encoder takes, `(N, C, H, W)`.
        target: What the likelihood scores, `(N, C, H, W)`.
        noise: Where the latents' noise comes from: drawn, or recorded.
        given: What `forward` is given by keyword; each has the batch as its first axis.
        weight: Of each pixel of the target, `(N, 1, H, W)`; None counts all alike.
        dims: Where pixels have weights, their sum in an image, a mean over the whole batch of which this is a piece;
            None where it is the whole.
        more: The noise of further posterior samples of the same images, where the objective takes several.
        share: The part of the samples that this pass takes: losses and terms of all passes add up with these weights.
        importance: The weights of the samples of this pass, under the importance-weighted bound.
    """

    x: Tensor
    target: Tensor
    noise: Noise
    given: Mapping[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None
    dims: Tensor | None = None
    more: Sequence[Noise] = ()
    share: float = 1.0
    importance: Importance | None = None

    def repeated(self, noises: Sequence[Noise]) -> ModelBatch:
        """Several samples of each image as one batch: all images once for each noise, `(samples · N, …)`."""
        n = len(noises)

        def again(values: Tensor) -> Tensor:
            return values.repeat(n, *(1 for _ in values.shape[1:]))

        return ModelBatch(
            again(self.x),
            again(self.target),
            noises[0] if n == 1 else JoinedNoise(noises),
            given={name: again(values) for name, values in self.given.items()},
            weight=None if self.weight is None else again(self.weight),
            dims=self.dims,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Importance:
    """Samples weighed against each other (IWAE, Burda, Grosse & Salakhutdinov 2016).

    `weights` are those of the samples of one pass, `(samples · N,)`, adding up to 1 over all samples of an image;
    `bound` is log 1/K Σ w and `effective` (Σ w)² / Σ w², both `(N,)` and of all samples.
    """

    weights: Tensor
    bound: Tensor
    effective: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Elbo:
    """The negative ELBO in nats per image: `distortion` `(N,)`, `rates` `(groups, N)`, and the `dims` to divide by.

    Where pixels have weights, the distortion is weighted, and `dims` `(N,)` are the sums of each image's weights.

    `params` are the likelihood's parameters, as the model returned them. Where `density` is no, the distortion is an
    error and cannot be added to the rates, which stay what they are.
    """

    distortion: Tensor
    rates: Tensor
    dims: int | Tensor
    params: Tensor
    density: bool = True

    @property
    def negative_elbo(self) -> Tensor:
        """D + Σ R, `(N,)` nats per image."""
        return self.distortion + self.rates.sum(0)

    def terms(self, dims: float | Tensor) -> dict[str, Tensor]:
        """Means over the batch by name, units in the names; rates per group as a vector, in order of generation.

        `dims` are what a mean over the batch is divided by.
        """
        distortion, rates = self.distortion.detach().mean(), self.rates.detach().mean(1)
        if not self.density:
            return {
                names.ERROR_PER_DIM: distortion / dims,
                names.RATE_BITS_PER_IMAGE: rates.sum() / math.log(2),
                names.RATE_BITS_PER_DIM: rates.sum() / (dims * math.log(2)),
                names.RATE_PER_GROUP_NATS_PER_IMAGE: rates,
            }
        negative_elbo = distortion + rates.sum()
        return {
            names.NEGATIVE_ELBO_NATS_PER_IMAGE: negative_elbo,
            names.NEGATIVE_ELBO_NATS_PER_DIM: negative_elbo / dims,
            names.BITS_PER_DIM: negative_elbo / (dims * math.log(2)),
            names.DISTORTION_NATS_PER_DIM: distortion / dims,
            names.RATE_NATS_PER_DIM: rates.sum() / dims,
            names.RATE_PER_GROUP_NATS_PER_IMAGE: rates,
        }


def latent_groups(model: nn.Module) -> Sequence[LatentGroup]:
    """The latent groups that an emitted model declares, in order of generation."""
    return cast("Sequence[LatentGroup]", model.LATENTS)


def measure(model: nn.Module, batch: ModelBatch, latents: Traversal) -> Elbo:
    """Run the model once along `latents` and score the batch's target.

    Training, evaluation, importance weights and reconstructions all come through here.
    """
    likelihood = cast("Likelihood", model.likelihood)
    params: Tensor = model(batch.x, latents, **batch.given)
    weight = () if batch.weight is None else (batch.weight,)
    distortion = -likelihood.log_prob(params, batch.target, *weight)
    channels, height, width = batch.target.shape[1:]
    rates = latents.rates if len(latents) else distortion.new_zeros(0, len(distortion))
    dims: int | Tensor = likelihood.dims((channels, height, width))
    if batch.weight is not None:
        dims = likelihood.weights(batch.weight, batch.target).flatten(1).sum(1)
    return Elbo(distortion, rates, dims, params, density=likelihood.density)
