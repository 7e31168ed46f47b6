"""How good codes are: what they keep of images, how many of them are used, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.runtime.codes.levels import CodesError, Level, code_levels, infer_codes
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.ground.pixels import as_stored, pixel_bits
from hvdsl.runtime.inference.inference import chunks, inference, to_pixels
from hvdsl.runtime.latents.conditions import as_tensors, conditions_of
from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.priors.protocol import as_prior
from hvdsl.runtime.priors.stage import names_of, nats, score_codes
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.quantizers.usage import Usage, usage_of
from hvdsl.runtime.training.batches import PixelSource, read_with_fields


@dataclass(frozen=True, slots=True)
class LevelEvaluation:
    """One level over a data set.

    Attributes:
        usage: How its codes were chosen.
        uniform_bits_per_image: What its codes cost if all are equally likely.
        prior_nats_per_code: The mean under the trained prior; None without one.
        prior_bits_per_image: The same for all of an image's codes.
    """

    level: Level
    usage: Usage
    uniform_bits_per_image: float
    prior_nats_per_code: float | None
    prior_bits_per_image: float | None

    def as_json(self) -> dict[str, Any]:
        """For `eval --json`."""
        return {
            "level": self.level.name,
            "codes": self.level.classes,
            "shape": list(self.level.shape),
            "used_fraction": self.usage.used,
            "perplexity_codes": self.usage.perplexity,
            "uniform_bits_per_image": self.uniform_bits_per_image,
            "prior_nats_per_code": self.prior_nats_per_code,
            "prior_bits_per_image": self.prior_bits_per_image,
        }


@dataclass(frozen=True, slots=True)
class CodeEvaluation:
    """All levels over a data set.

    Attributes:
        psnr_db: 10 log10(most² / mean squared error) of rounded pixel values, over all images together; None where
            every pixel is exact.
        dims: Values of an image; None where there are codes alone.
    """

    images: int
    psnr_db: float | None
    levels: tuple[LevelEvaluation, ...]
    dims: int | None

    @property
    def uniform_bits_per_image(self) -> float:
        return sum(level.uniform_bits_per_image for level in self.levels)

    @property
    def prior_bits_per_image(self) -> float | None:
        """Under the trained priors; None unless every level has one."""
        bits = [level.prior_bits_per_image for level in self.levels]
        known = [b for b in bits if b is not None]
        return sum(known) if len(known) == len(bits) else None

    @property
    def prior_nats_per_image(self) -> float | None:
        """The same in nats."""
        return None if self.prior_bits_per_image is None else self.prior_bits_per_image * math.log(2)

    def as_json(self) -> dict[str, Any]:
        """For `eval --json`."""
        prior = self.prior_bits_per_image
        if self.dims is None:
            return {
                "images": self.images,
                "uniform_bits_per_image": self.uniform_bits_per_image,
                "prior_bits_per_image": prior,
                "prior_nats_per_image": self.prior_nats_per_image,
                "levels": [level.as_json() for level in self.levels],
            }
        return {
            "psnr_db": self.psnr_db,
            "uniform_bits_per_image": self.uniform_bits_per_image,
            "uniform_bits_per_dim": self.uniform_bits_per_image / self.dims,
            "prior_bits_per_image": prior,
            "prior_bits_per_dim": None if prior is None else prior / self.dims,
            "levels": [level.as_json() for level in self.levels],
        }


def evaluate_codes(
    model: nn.Module,
    priors: Mapping[str, nn.Module],
    data: Data,
    images: PixelSource,
    *,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> CodeEvaluation:
    """Encode, reconstruct and score every image once.

    Args:
        priors: The trained ones, by level.
        progress: Called with the number of images that are done.

    Raises:
        HvdslError: There are no images, or a prior is given what the images have not.
    """
    if len(images) == 0:
        raise CodesError(f"{images.name} has no images to evaluate on")
    levels, vae = code_levels(model), as_vae(model)
    counts = {level.name: torch.zeros(level.depth, level.classes, dtype=torch.float64) for level in levels}
    costs = dict.fromkeys(priors, 0.0)
    squares, low, high = 0.0, math.inf, -math.inf
    for indices in chunks(range(len(images)), batch):
        pixels, given = read_with_fields(images, indices, [c.name for c in conditions_of(model)])
        v = torch.from_numpy(pixels.astype(np.float32))
        codes, params = infer_codes(model, v, as_tensors(given))
        with inference(model):
            shown = as_stored(to_pixels(vae, vae.likelihood.mean(params), data), data).cpu()
        squares += (shown - v).double().square().sum().item()
        low, high = min(low, v.min().item()), max(high, v.max().item())
        for level in levels:
            counts[level.name] += _counts(codes[level.name], level)
        for name, prior in priors.items():
            costs[name] += _nats(prior, codes, images, indices)
        if progress is not None:
            progress(indices.stop)
    count, dims = len(images), math.prod(data.shape)
    most = high - low if data.is_real else 2 ** pixel_bits(data) - 1
    return CodeEvaluation(
        images=count,
        psnr_db=10 * math.log10(most**2 * count * dims / squares) if squares > 0 and most > 0 else None,
        levels=tuple(
            _evaluation(level, counts[level.name], costs[level.name] / count if level.name in costs else None)
            for level in levels
        ),
        dims=dims,
    )


def evaluate_stored_codes(
    store: CodeStore,
    levels: Sequence[Level],
    priors: Mapping[str, nn.Module],
    *,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> CodeEvaluation:
    """Score codes that are there already, of which there is no autoencoder.

    Args:
        levels: Which of the store's are of codes.
        priors: The trained ones, by level.
        progress: Called with the number of levels that are done.

    Raises:
        CodesError: There are no codes, or a prior is given what is not stored.
    """
    evaluations = []
    for done, level in enumerate(levels):
        rows, counts = store.rows([level.name]), torch.zeros(level.depth, level.classes, dtype=torch.float64)
        for indices in chunks(range(len(rows)), 4096):
            codes = torch.from_numpy(rows.batch(indices))
            counts += _counts(codes.reshape(-1, *level.shape), level)
        cost = None
        if level.name in priors:
            prior = priors[level.name]
            bits = score_codes(prior, store.rows(names_of(prior)), None, batch=batch).bits_per_map
            cost = bits * math.log(2)
        evaluations.append(_evaluation(level, counts, cost))
        if progress is not None:
            progress(done + 1)
    return CodeEvaluation(len(store), None, tuple(evaluations), None)


def _counts(codes: Tensor, level: Level) -> Tensor:
    by_depth = codes.reshape(len(codes), level.depth, -1).transpose(0, 1).flatten(1).cpu()
    return torch.stack([torch.bincount(c, minlength=level.classes) for c in by_depth]).double()


def _nats(prior: nn.Module, codes: Mapping[str, Tensor], images: PixelSource, indices: range) -> float:
    model = as_prior(prior)
    given = []
    with inference(prior) as device:
        for map in model.CONDITIONS:
            if isinstance(map, CodeMap) and map.grid:
                given.append(codes[map.name].to(device))
            else:
                _, fields = read_with_fields(images, indices, [map.name])
                given.append(as_tensors(fields)[map.name].to(device))
        return nats(prior, codes[model.CODES.name].to(device), *given).double().sum().item()


def _evaluation(level: Level, counts: Tensor, cost: float | None) -> LevelEvaluation:
    return LevelEvaluation(
        level=level,
        usage=usage_of(level.name, counts),
        uniform_bits_per_image=level.size * math.log2(level.classes),
        prior_nats_per_code=None if cost is None else cost / level.size,
        prior_bits_per_image=None if cost is None else cost / math.log(2),
    )
