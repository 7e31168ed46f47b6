"""How well a model explains a data set: the evidence lower bound, and the importance-weighted bound.

The latter is that of IWAE (Burda, Grosse & Salakhutdinov 2016), one sample at a time. With
log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x), z_k ~ q: L_K = log (1/K) Σ w_k, at most log p(x), and the ELBO
for K = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.pixels import as_stored, pixel_bits
from hvdsl.runtime.ground.seeds import derive_seed
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.inference import chunks, inference, model_batch, to_pixels
from hvdsl.runtime.inference.quality import ssim
from hvdsl.runtime.latents import LatentGroup, Source, Traversal
from hvdsl.runtime.latents.conditions import as_tensors, fields_of, scored_of, target_images, target_of
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.objective.elbo import ModelBatch, measure
from hvdsl.runtime.protocol import HierarchicalVae, as_vae
from hvdsl.runtime.training.batches import PixelSource, read_with_fields


class ImportanceBound:
    """Collects log-weights `(N,)` of a batch as they come; memory does not grow with their number.

    Sums are kept relative to the largest weight so far, in float64.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._largest = torch.tensor(-math.inf, dtype=torch.float64)
        self._sum = torch.tensor(0.0, dtype=torch.float64)  # Σ exp(log w - largest)
        self._sum_of_squares = torch.tensor(0.0, dtype=torch.float64)
        self._sum_of_logs = torch.tensor(0.0, dtype=torch.float64)

    def add(self, log_weight: Tensor) -> None:
        """One more sample of every image."""
        log_weight = log_weight.detach().double()
        if self.samples == 0:
            device = log_weight.device
            self._largest = torch.full_like(log_weight, -math.inf)
            self._sum, self._sum_of_squares = self._sum.to(device), self._sum_of_squares.to(device)
            self._sum_of_logs = self._sum_of_logs.to(device)
        largest = torch.maximum(self._largest, log_weight)
        shrink, new = torch.exp(self._largest - largest), torch.exp(log_weight - largest)
        self._sum = self._sum * shrink + new
        self._sum_of_squares = self._sum_of_squares * shrink**2 + new**2
        self._sum_of_logs = self._sum_of_logs + log_weight
        self._largest = largest
        self.samples += 1

    @property
    def bound(self) -> Tensor:
        """L_K of each image, `(N,)` nats."""
        return self._largest + self._sum.log() - math.log(self.samples)

    @property
    def elbo(self) -> Tensor:
        """The mean log-weight of each image, `(N,)` nats."""
        return self._sum_of_logs / self.samples

    @property
    def effective_sample_size(self) -> Tensor:
        """(Σ w)² / Σ w² of each image, `(N,)`, between 1 and K."""
        return self._sum**2 / self._sum_of_squares


ACTIVE = 0.1  # nats per image: a channel with less carries nothing (NVAE, Vahdat & Kautz 2020, appendix)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over all images of a data set.

    Attributes:
        images: How many.
        dims: What "per dimension" divides by: values of an image, or the mean of the sums of its weights.
        samples: Posterior samples per image, K. With one the bound is the ELBO; with more it is
            `log 1/K sum_k p(x, z_k) / q(z_k | x)` (Burda et al. 2016).
        nats_per_dim: The negative bound.
        bits_per_dim: The same, divided by ln 2.
        standard_error: Of `bits_per_dim`, over images.
        distortion: `-log p(x | z)`, nats per dimension.
        rate: `KL(q || p)`, nats per dimension.
        rate_per_group: Nats per image, in order of generation.
        active_channels: Of each group, the channels whose rate, summed over the map, has a mean above 0.1 nats.
        psnr_db: Of the reconstructions E[x | z], z from the posterior, as pixel values, over all images together; None
            where every pixel is exact, or nobody asked.
        ssim: Of the same, mean over images (Wang et al. 2004); None where nobody asked.
        density: Whether the likelihood is one. Otherwise `distortion` is the mean error of a value, and the bound is
            minus the rate alone: what the codes cost under the prior.
    """

    images: int
    samples: int
    dims: int | float
    nats_per_dim: float
    bits_per_dim: float
    standard_error: float
    distortion: float
    rate: float
    rate_per_group: tuple[float, ...]
    active_channels: tuple[int, ...]
    density: bool = True
    psnr_db: float | None = None
    ssim: float | None = None

    @property
    def nats_per_image(self) -> float:
        """The negative bound of a whole image: what is customarily reported for small black and white data."""
        return self.nats_per_dim * self.dims

    @property
    def interval_95(self) -> tuple[float, float]:
        """The 95 % confidence interval of `bits_per_dim`, by the normal approximation over images."""
        margin = 1.96 * self.standard_error
        return self.bits_per_dim - margin, self.bits_per_dim + margin

    def as_json(self) -> dict[str, Any]:
        """For `eval --json`."""
        if not self.density:
            return self._errors() | self._quality()
        return {
            "bits_per_dim": self.bits_per_dim,
            "nats_per_dim": self.nats_per_dim,
            "nats_per_image": self.nats_per_image,
            "distortion": self.distortion,
            "rate": self.rate,
            "rate_per_group": list(self.rate_per_group),
            "active_channels": list(self.active_channels),
            "images": self.images,
            "samples": self.samples,
            "standard_error": self.standard_error,
            "interval_95_bits_per_dim": list(self.interval_95),
        } | self._quality()

    def as_metrics(self) -> dict[str, Any]:
        """For the metrics log: every name carries its unit."""
        if not self.density:
            return self._errors()
        several = self.samples > 1
        bound = names.NEGATIVE_IMPORTANCE_BOUND_NATS_PER_DIM if several else names.NEGATIVE_ELBO_NATS_PER_DIM
        return {
            names.BITS_PER_DIM: self.bits_per_dim,
            bound: self.nats_per_dim,
            names.DISTORTION_NATS_PER_DIM: self.distortion,
            names.RATE_NATS_PER_DIM: self.rate,
            names.RATE_PER_GROUP_NATS_PER_IMAGE: list(self.rate_per_group),
            names.ACTIVE_CHANNELS_PER_GROUP: list(self.active_channels),
            names.STANDARD_ERROR_BITS_PER_DIM: self.standard_error,
            names.IMAGES: self.images,
            names.SAMPLES: self.samples,
        }

    def _quality(self) -> dict[str, Any]:
        """How near reconstructions are, where it was asked for."""
        return {} if self.ssim is None else {"psnr_db": self.psnr_db, "ssim": self.ssim}

    def _errors(self) -> dict[str, Any]:
        """What is measured where the likelihood is an error."""
        return {
            names.ERROR_PER_DIM: self.distortion,
            names.RATE_BITS_PER_IMAGE: sum(self.rate_per_group) / math.log(2),
            names.RATE_BITS_PER_DIM: self.bits_per_dim,
            names.RATE_PER_GROUP_NATS_PER_IMAGE: list(self.rate_per_group),
            names.IMAGES: self.images,
        }


def evaluate(
    model: nn.Module,
    data: PixelSource,
    *,
    samples: int = 1,
    batch: int = 64,
    seed: int = 0,
    pixels: Data | None = None,
    world: World | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score every image once, whatever the batch size and however many ranks share the work.

    Noise is drawn by (seed, sample, index), so the result does not depend on `batch` but for rounding. Rate and
    distortion are in closed form or of the samples; the importance weights always use the sampled log-ratio.

    Args:
        pixels: What pixel values are; with it, reconstructions are compared with what they are of, unless pixels are
            real numbers or count differently.
        progress: Called with the number of this rank's images that are done.

    Raises:
        HvdslError: There are no images, the bound is not finite, or several samples are asked for where there is none.
    """
    if len(data) == 0:
        raise HvdslError(f"{data.name} has no images to evaluate on")
    world = world or World()
    if len(data) < world.size:
        raise HvdslError(f"{data.name} has {len(data)} images for {world.size} processes: start at most as many")
    vae, noise_seed = as_vae(model), derive_seed(seed, "evaluation noise")
    if samples > 1 and not vae.likelihood.density:
        raise HvdslError("several samples per image tighten a bound, and a reconstruction error is none: use 1 sample")
    groups = len(vae.LATENTS)
    channels = [_rated_channels(group) for group in vae.LATENTS]
    # The bound, its square, the distortion, images, squared errors, similarity, each group's rate, each channel's rate.
    sums = torch.zeros(6 + groups + sum(channels), dtype=torch.float64)
    scored, fields = torch.zeros((), dtype=torch.float64), fields_of(model)
    whole = pixels is not None and not pixels.is_real and pixels.weight is None and not target_images(model)
    compared = pixels if whole else None
    with inference(model) as device:
        mine = world.share(len(data))
        for indices in chunks(mine, batch):
            raw, given = read_with_fields(data, indices, fields)
            v = torch.from_numpy(raw.astype(np.float32)).to(next(model.parameters()))
            score = score_images(model, v, indices, samples, noise_seed, as_tensors(given))
            bound = score.bound
            scored += score.dims.double().sum().cpu()
            sums[:3] += torch.stack([bound.sum(), bound.square().sum(), score.distortion.sum()]).cpu()
            sums[3] += len(indices)
            if compared is not None:
                wanted = v
                if compared.target is not None and scored_of(model):  # not the image, but what stands beside it
                    target = target_of(model, v, {n: value.to(v.device) for n, value in as_tensors(given).items()})
                    wanted = as_stored(to_pixels(vae, target, compared), compared)
                sums[4:6] += _compare(vae, score.params, wanted, compared)
            sums[6 : 6 + groups] += score.rates.sum(1).cpu()
            sums[6 + groups :] += score.channel_rates.cpu()
            if progress is not None:
                progress(indices.stop - mine.start)
        sums = torch.cat((sums, scored[None]))
        *totals, scored_values = world.sum(sums.to(device) if world.size > 1 else sums).tolist()
        dims = scored_values / totals[3]
        dims = round(dims) if dims.is_integer() else dims
    active = _active(totals[6 + groups :], channels, totals[3])
    bound_sums = totals[:4] + totals[6 : 6 + groups]
    result = _summary(bound_sums, active, samples, dims, data.name, vae.likelihood.density)
    if compared is None:
        return result
    psnr = _psnr(totals[3], totals[4], v[0].numel(), compared)
    return replace(result, psnr_db=psnr, ssim=totals[5] / totals[3])


def _compare(vae: HierarchicalVae, params: Tensor, v: Tensor, data: Data) -> Tensor:
    """The squared errors and the similarity of the reconstructions of a batch, summed over it."""
    shown = as_stored(to_pixels(vae, vae.likelihood.mean(params), data), data)
    similarity = ssim(shown, v, 2 ** pixel_bits(data) - 1)
    return torch.stack([(shown - v).double().square().sum(), similarity.sum()]).cpu()


def _psnr(images: float, squares: float, values: int, data: Data) -> float | None:
    """The ratio over all images together, in dB; None where every pixel is exact."""
    peak = 2 ** pixel_bits(data) - 1
    return 10 * math.log10(peak**2 * images * values / squares) if squares else None


def _rated_channels(group: LatentGroup) -> int:
    """Channels that have a rate of their own: the channels of a code vector share one."""
    return group.shape[0] if group.codes is None else 1


def _active(rates: list[float], channels: list[int], images: float) -> tuple[int, ...]:
    """How many channels of each group carry information, from their rates summed over all images."""
    flags = iter(rate / images > ACTIVE for rate in rates)
    return tuple(sum(next(flags) for _ in range(n)) for n in channels)


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

    One sample per pass, the weights summed as they come: memory does not grow with the number of samples.

    Args:
        from_prior: So many of the last groups are drawn from their priors: the bound L^{>k} of Havtorn et al. 2021.
    """
    vae = as_vae(model)
    images: ModelBatch | None = None
    dims: int | Tensor = 0
    distortion = torch.zeros(len(v), dtype=torch.float64, device=v.device)
    rates = torch.zeros(len(vae.LATENTS), len(v), dtype=torch.float64, device=v.device)
    channel_rates = torch.zeros(sum(map(_rated_channels, vae.LATENTS)), dtype=torch.float64, device=v.device)
    weights, params = ImportanceBound(), None
    sources = [Source.POSTERIOR] * (len(vae.LATENTS) - from_prior) + [Source.PRIOR] * from_prior
    for k in range(samples):
        noise = image_noise(model, vae.LATENTS, seed, indices, k, v.device)
        latents = Traversal(
            vae.LATENTS, len(v), noise, sources, densities=samples > 1, detail="channel", device=v.device
        )
        images = model_batch(model, v, noise, given) if images is None else replace(images, noise=noise)
        elbo = measure(model, images, latents)
        dims = elbo.dims
        params = elbo.params if params is None else params
        distortion += elbo.distortion.double() / samples
        rates += elbo.rates.double() / samples
        details = [o.rate_detail.double().sum(0) for o in latents.outcomes if o.rate_detail is not None]
        channel_rates += torch.cat(details) / samples
        if samples > 1:
            weights.add(latents.log_weight.double() - elbo.distortion.double())
    if not vae.likelihood.density:
        bound = -rates.sum(0)
    else:
        bound = weights.bound if samples > 1 else -distortion - rates.sum(0)
    assert params is not None  # there is a sample
    scored = dims if isinstance(dims, Tensor) else torch.full((len(v),), float(dims))
    return ImageScores(bound, distortion, rates, channel_rates, scored.double(), params)


def _summary(
    totals: list[float], active: tuple[int, ...], samples: int, dims: float, name: str, density: bool
) -> Evaluation:
    bound, square, distortion, images, *rates = totals
    n = round(images)
    if not math.isfinite(bound + distortion):
        raise HvdslError(
            f"the bound on {name} is not finite: training diverged or the weights are damaged; try an earlier one"
        )
    mean = bound / n
    variance = max(0.0, square / n - mean**2) * n / (n - 1) if n > 1 else 0.0
    per_group = tuple(rate / n for rate in rates)
    return Evaluation(
        images=n,
        samples=samples,
        dims=dims,
        nats_per_dim=-mean / dims,
        bits_per_dim=-mean / dims / math.log(2),
        standard_error=math.sqrt(variance / n) / dims / math.log(2),
        distortion=distortion / n / dims,
        rate=sum(per_group) / dims,
        rate_per_group=per_group,
        active_channels=active,
        density=density,
    )
