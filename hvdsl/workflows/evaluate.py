"""What models and simple coders need for images: the bound, codes, and yardsticks beside them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from hvdsl.compiler.model import is_drawn_from_codes
from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.data import Splits
from hvdsl.runtime.data.dataset import Dataset
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.ground.pixels import pixel_bits
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.inference.evaluate import Evaluation, evaluate
from hvdsl.runtime.inference.inference import chunks, inference, some
from hvdsl.runtime.inference.scores import score_images
from hvdsl.runtime.latents.conditions import scored_of
from hvdsl.runtime.priors.evaluate import CodeEvaluation, evaluate_codes
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.batches import PixelSource
from hvdsl.workflows.calls import showing
from hvdsl.workflows.conditions import GivenValue, regiven, runtime_condition
from hvdsl.workflows.images import GivenImages, ImagesLike
from hvdsl.workflows.open import Opened, first_stage
from hvdsl.workflows.runs import class_names, run_data, used_images
from hvdsl.workflows.stages import PriorsAlone, open_priors

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageElbo:
    """The evidence lower bound of each of N images, float64 on the CPU.

    Attributes:
        elbo: `(N,)` nats: -(distortion + rates), or with several samples the importance-weighted bound.
        distortion: `(N,)` nats, -log p(x | z).
        rates: `(N, groups)` nats, in order of generation.
        dims: what "per dimension" divides by; `(N,)` where pixels have weights.
        samples: posterior samples per image.
    """

    elbo: Tensor
    distortion: Tensor
    rates: Tensor
    dims: int | Tensor
    samples: int = 1

    @property
    def nats_per_dim(self) -> Tensor:
        """The negative bound, `(N,)`."""
        return -self.elbo / self.dims

    @property
    def bits_per_dim(self) -> Tensor:
        """The same, divided by ln 2."""
        return self.nats_per_dim / math.log(2)

    def __repr__(self) -> str:
        return f"<hvdsl.ImageElbo of {len(self.elbo)} images: {self.bits_per_dim.mean().item():.4f} bits/dim>"


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationResult:
    """How well a model explains images.

    Attributes:
        bound: bits/dim, rate, distortion and their like, means over the images.
        codes: of a model of codes, how they are used and what they cost; else None.
        baselines: bits/dim of simple coders by name, where they were asked for; None where one cannot hold the images.
        split: which images; None where they were given.
        step: steps of training.
        images: which and how many, in words.
        names: of the images, where a place was given that they are at.
    """

    bound: Evaluation
    codes: CodeEvaluation | None
    baselines: Mapping[str, float | None]
    split: Split | None
    step: int
    images: str = "given images"
    names: tuple[str, ...] = ()

    @property
    def bits_per_dim(self) -> float:
        """The negative bound in bits per dimension; of a model whose likelihood is an error, the rate alone."""
        return self.bound.bits_per_dim

    def as_json(self) -> dict[str, Any]:
        """For `eval --json`."""
        whole = self.bound.as_json() | {"split": self.split, "step": self.step} | dict(self.baselines)
        names = {"names": list(self.names)} if self.names else {}
        return whole | (self.codes.as_json() if self.codes else {}) | names

    def __repr__(self) -> str:
        return f"<hvdsl.EvaluationResult of {self.images}: {self.bits_per_dim:.4f} bits/dim, step {self.step}>"


def image_elbo(
    module: nn.Module, pixels: Tensor, given: Mapping[str, Tensor], *, samples: int, batch: int, seed: int
) -> ImageElbo:
    """Score each image; see `Trained.elbo`."""
    vae, noise_seed = as_vae(module), derive_seed(seed, "evaluation noise")
    if not vae.likelihood.density:
        raise HvdslError("the likelihood of this model is an error and no density, so there is no bound: `evaluate` it")
    if samples < 1:
        raise HvdslError(f"{samples} posterior samples per image are none: ask for 1 or more")
    bounds, distortions, rates, dims = [], [], [], []
    with inference(module) as device:
        for indices in chunks(range(len(pixels)), batch):
            part = pixels[indices.start : indices.stop].to(device)
            scores = score_images(module, part, indices, samples, noise_seed, some(given, indices))
            bounds.append(scores.bound.cpu())
            distortions.append(scores.distortion.cpu())
            rates.append(scores.rates.T.cpu())
            dims.append(scores.dims.cpu())
    whole = as_vae(module).likelihood.dims((pixels.shape[1], pixels.shape[2], pixels.shape[3]))
    counted = torch.cat(dims) if getattr(module, "weight", None) is not None else whole
    return ImageElbo(torch.cat(bounds), torch.cat(distortions), torch.cat(rates), counted, samples)


def evaluate_any(
    opened: Opened,
    images: ImagesLike | None,
    data: str | os.PathLike[str] | None,
    split: Split | None,
    samples: int | None,
    baselines: bool,
    batch: int,
    seed: int,
    console: Console | None,
    given: Mapping[str, GivenValue] | None,
) -> EvaluationResult:
    """Evaluate given images, those at a place, or a split of a run's data; see `Trained.evaluate`.

    Raises:
        HvdslError: there are no images, they do not fit, or the bound is not finite.
    """
    if opened.spec.model.is_of_codes:
        raise UsageError(f"{PriorsAlone.WITHOUT_IMAGES}; `evaluate_codes` says what codes cost")
    if images is None:
        place = None if data is None else Path(data)
        return evaluate_split(opened, place, split, samples, baselines, batch, seed, console, given)
    if data is not None or baselines:
        raise UsageError("given images have no training images beside them: leave out `data` and `baselines`")
    pixels, fields = opened.images(images, given)
    return evaluate_images(opened, pixels, fields, samples, batch, seed, console)


def evaluate_split(
    opened: Opened,
    data: Path | None,
    split: Split | None,
    samples: int | None,
    baselines: bool,
    batch: int,
    seed: int,
    console: Console | None,
    given: Mapping[str, GivenValue] | None = None,
) -> EvaluationResult:
    """Evaluate a split of a run's data, or all images at a place; see `Trained.evaluate`."""
    settings = opened.spec.model.settings
    if baselines and settings.data.is_real:
        raise UsageError("--baselines are of whole numbers; the pixels of this data are real numbers")
    if baselines and (settings.data.weight is not None or scored_of(opened.module)):
        raise UsageError("--baselines are of whole images, and `weight` or `target` of this spec score something else")
    images = used_images(opened.run, settings.data, data, split)
    priors = [runtime_condition(field) for field in settings.data.conditions] if opened.spec.model.priors else []
    scored = regiven(opened.module, images, given, settings.data, class_names(opened.run), priors)
    with showing("images", console) as show:
        bound = evaluate(
            opened.module,
            scored,
            samples=samples or settings.evaluate.samples,
            batch=batch,
            seed=seed,
            world=world(),
            pixels=settings.data,
            progress=lambda done: show(done, len(images)),
        )
    of_codes = is_drawn_from_codes(opened.spec.model) and opened.run is not None
    codes = _codes(opened, scored, batch, console) if of_codes else None
    levels = 2 ** pixel_bits(settings.data)
    yardsticks = _baselines(run_data(opened.run, settings.data), images, levels) if baselines else {}
    part = split or ("test" if data is None else None)
    called = () if data is None else tuple(images.names(range(len(images))))
    return EvaluationResult(bound, codes, yardsticks, part, opened.step, images.name, called)


def evaluate_images(
    opened: Opened,
    pixels: Tensor,
    given: Mapping[str, Tensor],
    samples: int | None,
    batch: int,
    seed: int,
    console: Console | None,
) -> EvaluationResult:
    """Evaluate given images, raw pixel values `(N, C, H, W)`; see `Trained.evaluate`."""
    settings = opened.spec.model.settings
    with showing("images", console) as show:
        bound = evaluate(
            opened.module,
            GivenImages(pixels, given),
            samples=samples or settings.evaluate.samples,
            batch=batch,
            seed=seed,
            pixels=settings.data,
            progress=lambda done: show(done, len(pixels)),
        )
    return EvaluationResult(bound, None, {}, None, opened.step, f"{len(pixels):,} given images")


def _baselines(splits: Splits, images: Dataset, levels: int) -> dict[str, float | None]:
    return {
        "png_bits_per_dim": png_bits_per_dim(images),
        "histogram_bits_per_dim": histogram_bits_per_dim(splits.train, images, levels),
    }


def _codes(opened: Opened, images: PixelSource, batch: int, console: Console | None) -> CodeEvaluation:
    first = first_stage(opened)
    levels = [level.name for level in first.levels]
    priors = open_priors(first, levels, lambda settings: opened.use_ema and settings.evaluate.use_ema)
    with showing("codes", console) as show:
        return evaluate_codes(
            opened.module,
            priors,
            first.model.settings.data,
            images,
            batch=batch,
            progress=lambda done: show(done, len(images)),
        )


CODER_BATCH = 256


def histogram_bits_per_dim(train: PixelSource, images: PixelSource, levels: int) -> float:
    """Return the code length under a histogram of each position and channel, counted on the training images.

    Counts start at one half for each of the `levels` values (Krichevsky & Trofimov 1981): none costs infinity.
    """
    counts: NDArray[np.float64] | None = None
    total = 0
    for pixels in _batches(train):
        flat = pixels.reshape(len(pixels), -1)
        if counts is None:
            counts = np.full((flat.shape[1], levels), 0.5)
        for values, row in zip(flat.T, counts, strict=True):
            row += np.bincount(values, minlength=levels)
        total += len(flat)
    if counts is None:
        raise HvdslError(f"{train.name} has no images to count")
    bits = -np.log2(counts / (total + 0.5 * levels))
    lengths = [bits[np.arange(len(bits)), pixels.reshape(len(pixels), -1)].mean(1) for pixels in _batches(images)]
    return float(np.concatenate(lengths).mean())


def png_bits_per_dim(images: PixelSource) -> float | None:
    """Return the size of each image as a PNG file of its own, headers included; None where PNG cannot hold them."""
    sizes: list[float] = []
    for pixels in _batches(images):
        if pixels.shape[1] not in (1, 3) or pixels.max() > 255:
            return None
        for image in pixels.astype(np.uint8):
            file = BytesIO()
            picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", optimize=True)
            sizes.append(8 * file.tell() / image.size)
    return float(np.mean(sizes))


def _batches(images: PixelSource) -> Iterator[NDArray[np.uint16]]:
    for start in range(0, len(images), CODER_BATCH):
        yield images.batch(range(start, min(start + CODER_BATCH, len(images))), 0)
