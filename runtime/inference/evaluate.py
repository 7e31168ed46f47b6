"""How well a model explains a data set: means of the bounds of its images, and of their reconstructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.ground.pixels import as_stored, pixel_bits
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.inference import chunks, inference, to_pixels
from hvdsl.runtime.inference.scores import ImageScores, rated_channels, score_images, ssim
from hvdsl.runtime.latents import LatentGroup
from hvdsl.runtime.latents.conditions import as_tensors, fields_of, scored_of, target_images, target_of
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.batches import PixelSource, read_with_fields

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
    world, vae = world or World(), as_vae(model)
    _check(data, world, samples, vae.likelihood.density)
    noise_seed, fields = derive_seed(seed, "evaluation noise"), fields_of(model)
    whole = pixels is not None and not pixels.is_real and pixels.weight is None and not target_images(model)
    compared = pixels if whole else None
    totals = _Totals(vae.LATENTS)
    with inference(model) as device:
        mine = world.share(len(data))
        for indices in chunks(mine, batch):
            raw, arrays = read_with_fields(data, indices, fields)
            v = torch.from_numpy(raw.astype(np.float32)).to(next(model.parameters()))
            given = as_tensors(arrays)
            scores = score_images(model, v, indices, samples, noise_seed, given)
            totals.add(scores)
            if compared is not None:
                shown = as_stored(to_pixels(vae, vae.likelihood.mean(scores.params), compared), compared)
                totals.compare(shown, _reference(model, v, given, compared), 2 ** pixel_bits(compared) - 1)
            if progress is not None:
                progress(indices.stop - mine.start)
        totals.exchange(world, device)
    if not totals.is_finite:
        raise HvdslError(
            f"the bound on {data.name} is not finite: training diverged or the weights are damaged; try an earlier one"
        )
    return totals.evaluation(samples, vae.likelihood.density)


def _check(data: PixelSource, world: World, samples: int, density: bool) -> None:
    """Refuse what nothing can be said of."""
    if len(data) == 0:
        raise HvdslError(f"{data.name} has no images to evaluate on")
    if len(data) < world.size:
        raise HvdslError(f"{data.name} has {len(data)} images for {world.size} processes: start at most as many")
    if samples > 1 and not density:
        raise HvdslError("several samples per image tighten a bound, and a reconstruction error is none: use 1 sample")


def _reference(model: nn.Module, v: Tensor, given: Mapping[str, Tensor], data: Data) -> Tensor:
    """What reconstructions are compared with: the images, or what stands beside them where that is scored."""
    if data.target is None or not scored_of(model):
        return v
    target = target_of(model, v, {name: value.to(v.device) for name, value in given.items()})
    return as_stored(to_pixels(as_vae(model), target, data), data)


class _Totals:
    """Sums over the images of a data set, in float64: one vector, which several processes add up at once."""

    def __init__(self, groups: Sequence[LatentGroup]) -> None:
        self._channels = [rated_channels(group) for group in groups]
        # The bound, its square, the distortion, images, squared errors, similarity, what each image's nats are divided
        # by; then each group's rate, and each channel's.
        self._sums = torch.zeros(7 + len(groups) + sum(self._channels), dtype=torch.float64)
        self._values, self._peak = 0, 0  # of an image that was compared

    def add(self, scores: ImageScores) -> None:
        """One more batch."""
        bound, groups = scores.bound, len(self._channels)
        self._sums[:3] += torch.stack([bound.sum(), bound.square().sum(), scores.distortion.sum()]).cpu()
        self._sums[3] += len(bound)
        self._sums[6] += scores.dims.double().sum().cpu()
        self._sums[7 : 7 + groups] += scores.rates.sum(1).cpu()
        self._sums[7 + groups :] += scores.channel_rates.cpu()

    def compare(self, shown: Tensor, wanted: Tensor, peak: int) -> None:
        """The reconstructions of a batch beside what they are of, both in pixel values from 0 to `peak`."""
        self._values, self._peak = shown[0].numel(), peak
        errors, similarity = (shown - wanted).double().square().sum(), ssim(shown, wanted, peak).sum()
        self._sums[4:6] += torch.stack([errors, similarity]).cpu()

    def exchange(self, world: World, device: torch.device) -> None:
        """Add up what all processes have."""
        if world.size > 1:
            self._sums = world.sum(self._sums.to(device)).cpu()

    @property
    def is_finite(self) -> bool:
        return bool((self._sums[0] + self._sums[2]).isfinite())

    def evaluation(self, samples: int, density: bool) -> Evaluation:
        """Means over the images, from `samples` samples of each."""
        bound, square, distortion, images, squares, similarity, scored, *rates = self._sums.tolist()
        groups, n, dims = len(self._channels), round(images), scored / images
        dims = round(dims) if dims.is_integer() else dims
        mean = bound / n
        variance = max(0.0, square / n - mean**2) * n / (n - 1) if n > 1 else 0.0
        per_group = tuple(rate / n for rate in rates[:groups])
        flags = iter(rate / n > ACTIVE for rate in rates[groups:])
        psnr = 10 * math.log10(self._peak**2 * n * self._values / squares) if squares else None
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
            active_channels=tuple(sum(next(flags) for _ in range(count)) for count in self._channels),
            density=density,
            psnr_db=psnr,
            ssim=similarity / n if self._values else None,
        )
