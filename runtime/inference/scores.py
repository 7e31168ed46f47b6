"""How well a model explains single images: their bounds, and how near reconstructions are to them.

With several samples the bound is that of IWAE (Burda, Grosse & Salakhutdinov 2016). With log w_k = log p(x | z_k) +
log p(z_k) - log q(z_k | x), z_k ~ q: L_K = log (1/K) Σ w_k, at most log p(x), and the ELBO for K = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvdsl.runtime.ground.noise import JoinedNoise, Noise
from hvdsl.runtime.inference.inference import chunks, model_batch
from hvdsl.runtime.inference.passes import PASS, encoded_once, largest_map
from hvdsl.runtime.latents import LatentGroup, Source, Traversal
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.objective.elbo import Elbo, ModelBatch, measure
from hvdsl.runtime.protocol import as_vae

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III B and C


class ImportanceBound:
    """Collects log-weights of a batch as they come; memory does not grow with their number.

    Sums are kept relative to the largest weight so far, in float64.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._largest = torch.tensor(-math.inf, dtype=torch.float64)
        self._sum = torch.tensor(0.0, dtype=torch.float64)  # Σ exp(log w - largest)

    def add(self, log_weights: Tensor) -> None:
        """One more sample of every image, `(N,)`, or several, `(samples, N)`."""
        log_weights = log_weights.detach().double()
        log_weights = log_weights[None] if log_weights.dim() == 1 else log_weights
        if self.samples == 0:
            self._largest = torch.full_like(log_weights[0], -math.inf)
            self._sum = torch.zeros_like(log_weights[0])
        largest = torch.maximum(self._largest, log_weights.amax(0))
        shrink, new = torch.exp(self._largest - largest), torch.exp(log_weights - largest)
        self._sum = self._sum * shrink + new.sum(0)
        self._largest = largest
        self.samples += len(log_weights)

    @property
    def bound(self) -> Tensor:
        """L_K of each image, `(N,)` nats."""
        return self._largest + self._sum.log() - math.log(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """The score of a batch in float64 nats: `bound` and `distortion` `(N,)`, `rates` `(groups, N)`.

    `dims` `(N,)` are what each image's nats are divided by.

    `channel_rates` are summed over the images, `(channels of all groups,)`; `params` are the likelihood's, of the first
    sample. `elbo` is -(distortion + rates), and so the bound itself where there is one sample.
    """

    bound: Tensor
    distortion: Tensor
    rates: Tensor
    channel_rates: Tensor
    dims: Tensor
    params: Tensor

    @property
    def elbo(self) -> Tensor:
        return -self.distortion - self.rates.sum(0)


def score_images(
    model: nn.Module,
    v: Tensor,
    indices: range,
    samples: int,
    seed: int,
    given: Mapping[str, Tensor] = MappingProxyType({}),
    from_prior: int = 0,
) -> ImageScores:
    """Score each image of a batch, raw pixel values `(N, C, H, W)` with the numbers `indices`, by `samples` samples.

    `given` are the fields beside the images.

    What depends on the images alone is computed once. The first pass takes one sample of each image and tells how many
    the others have room for; weights are summed as they come, so that memory does not grow with the number of samples.

    Args:
        from_prior: So many of the last groups are drawn from their priors: the bound L^{>k} of Havtorn et al. 2021.
    """
    groups, n = as_vae(model).LATENTS, len(v)
    sources = [Source.POSTERIOR] * (len(groups) - from_prior) + [Source.PRIOR] * from_prior

    def noise(k: int) -> Noise:
        return image_noise(model, groups, seed, indices, k, v.device)

    def measured(batch: ModelBatch) -> tuple[Elbo, Traversal]:
        latents = Traversal(
            groups, len(batch.x), batch.noise, sources, densities=samples > 1, detail="channel", device=v.device
        )
        return measure(model, batch, latents), latents

    images = model_batch(model, v, noise(0), given)
    if samples == 1:
        return _Samples(1, *measured(images)).scores()
    with encoded_once(model, n):
        with largest_map(model) as largest:
            so_far = _Samples(samples, *measured(images))
        batch, room = images, max(1, PASS // largest())
        for part in chunks(range(1, samples), room):
            noises = [noise(k) for k in part]
            again = len(batch.x) == n * len(part)
            batch = replace(batch, noise=JoinedNoise(noises)) if again else images.repeated(noises)
            so_far.add(*measured(batch))
    return so_far.scores()


class _Samples:
    """Sums over `samples` samples of each image of a batch, in float64; the first pass holds one sample of each."""

    def __init__(self, samples: int, elbo: Elbo, latents: Traversal) -> None:
        self._count, self._first, self._images = samples, elbo, len(elbo.distortion)
        groups = latents.groups
        self._distortion = elbo.distortion.new_zeros(self._images, dtype=torch.float64)
        self._rates = self._distortion.new_zeros(len(groups), self._images)
        self._channel_rates = self._distortion.new_zeros(sum(map(rated_channels, groups)))
        self._weights = ImportanceBound()
        self.add(elbo, latents)

    def add(self, elbo: Elbo, latents: Traversal) -> None:
        """One more pass: all images, once for each of its samples."""
        distortion = elbo.distortion.double().view(-1, self._images)
        self._distortion += distortion.sum(0)
        self._rates += elbo.rates.double().view(len(self._rates), *distortion.shape).sum(1)
        details = [o.rate_detail.double().sum(0) for o in latents.outcomes if o.rate_detail is not None]
        self._channel_rates += torch.cat(details)
        if self._count > 1:
            self._weights.add(latents.log_weight.double().view(-1, self._images) - distortion)

    def scores(self) -> ImageScores:
        """Means over the samples, and the bound."""
        first, k = self._first, self._count
        distortion, rates = self._distortion / k, self._rates / k
        bound = self._weights.bound if k > 1 else -rates.sum(0) - (distortion if first.density else 0.0)
        dims = first.dims if isinstance(first.dims, Tensor) else torch.full((self._images,), float(first.dims))
        return ImageScores(bound, distortion, rates, self._channel_rates / k, dims.double(), first.params)


def rated_channels(group: LatentGroup) -> int:
    """Channels that have a rate of their own: the channels of a code vector share one."""
    return group.shape[0] if group.codes is None else 1


def ssim(images: Tensor, others: Tensor, peak: float) -> Tensor:
    """Return the mean structural similarity of each image, `(N,)`, at most 1 (Wang, Bovik, Sheikh & Simoncelli 2004).

    Means, variances and the covariance are weighted by a Gaussian window of 11x11 with standard deviation 1.5, within
    the image (equations 14 to 16), and the index (equation 13) is averaged over all windows and channels. Images with a
    side below 11 have the largest odd window that fits.

    Args:
        images: `(N, C, H, W)`.
        others: of the same shape.
        peak: the largest value that a pixel can have.
    """
    x, y = images.double(), others.double()
    size = min(WINDOW, *((side - 1) // 2 * 2 + 1 for side in x.shape[2:]))
    offsets = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    line = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def mean(values: Tensor) -> Tensor:
        return functional.conv2d(values.flatten(0, 1)[:, None], window).view(*values.shape[:2], -1)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).flatten(1).mean(1)
