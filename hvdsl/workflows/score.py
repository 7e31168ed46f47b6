"""How likely each image of a data set is under a model, for ranking images and finding those that do not belong."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.ground.disk import write_output
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.inference.inference import chunks, inference
from hvdsl.runtime.inference.scores import score_images
from hvdsl.runtime.latents.conditions import as_tensors, fields_of
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.batches import PixelSource, read_with_fields
from hvdsl.workflows.calls import showing
from hvdsl.workflows.conditions import GivenValue, regiven
from hvdsl.workflows.evaluate import Split
from hvdsl.workflows.groups import group_names
from hvdsl.workflows.images import GivenImages, ImagesLike, image_names
from hvdsl.workflows.open import Opened
from hvdsl.workflows.runs import class_names, used_images


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Roc:
    """How well a score tells images from others: a receiver operating characteristic.

    Attributes:
        false_positive_rate: the share of the first images with a score of at least each threshold, from the highest.
        true_positive_rate: the same of the others.
        auroc: the area below, the probability that one of the others has the higher score (ties count half).
    """

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    auroc: float

    def __repr__(self) -> str:
        return f"<hvdsl.Roc: AUROC {self.auroc:.4f}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scores:
    """What a model says of each of N images, in nats, float64 on the CPU.

    Attributes:
        names: of the images.
        groups: names of the latent groups, in order of generation.
        negative_elbo: `(N,)`: distortion + rates.
        distortion: `(N,)`, -log p(x | z).
        rates: `(N, groups)`.
        importance_bound: `(N,)`, log 1/K Σ p(x, z_k) / q(z_k | x) (Burda et al. 2016); None with one sample.
        llr: `(N,)`, LLR^{>k} = L - L^{>k}: the bound less the bound with the k last groups from their priors (Havtorn
            et al. 2021, equation 11), high where those groups carry what the others do not know; None where k is 0.
        k: how many groups that are.
        samples: posterior samples per image, K.
        dims: what "per dimension" divides by; `(N,)` where pixels have weights, the sums of each image's.
        images: which and how many, in words.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    negative_elbo: Tensor
    distortion: Tensor
    rates: Tensor
    importance_bound: Tensor | None
    llr: Tensor | None
    k: int
    samples: int
    dims: int | Tensor
    images: str = field(default="given images")

    @property
    def bits_per_dim(self) -> Tensor:
        """The negative ELBO, `(N,)`."""
        return self.negative_elbo / (self.dims * math.log(2))

    @property
    def columns(self) -> dict[str, Tensor]:
        """Everything that is known of each image, by the name of its column, with units."""
        columns = {
            "negative_elbo_nats": self.negative_elbo,
            "bits_per_dim": self.bits_per_dim,
            "distortion_nats": self.distortion,
            "rate_nats": self.rates.sum(1),
        }
        if self.importance_bound is not None:
            columns[f"importance_bound_nats_K{self.samples}"] = self.importance_bound
        if self.llr is not None:
            columns[f"llr_nats_k{self.k}"] = self.llr
        return columns | {f"rate_nats {name}": self.rates[:, i] for i, name in enumerate(self.groups)}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """What images are told from others by, `(N,)` each, higher meaning stranger."""
        statistics = {"negative ELBO": self.negative_elbo}
        if self.importance_bound is not None:
            statistics["negative importance-weighted bound"] = -self.importance_bound
        if self.llr is not None:
            statistics[f"LLR>{self.k}"] = self.llr
        return statistics

    def highest(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the images that are least likely, with their bits/dim."""
        order = self.negative_elbo.argsort(descending=True)[:count].tolist()
        return [(self.names[i], self.bits_per_dim[i].item()) for i in order]

    def roc(self, others: Scores) -> dict[str, Roc]:
        """Return how well each statistic tells `others` from these images.

        Raises:
            hvdsl.Error: the two are not scored alike.
        """
        if (self.samples, self.k, self.groups) != (others.samples, others.k, others.groups):
            raise HvdslError("the two sets are scored with other samples or groups: score both alike")
        return {name: roc(values, others.statistics[name]) for name, values in self.statistics.items()}

    def write(self, path: str | os.PathLike[str], *others: Scores) -> None:
        """Write a table with a row for each image: `.csv`. Rows of `others` follow, and say which set they are of.

        Raises:
            hvdsl.Error: another ending, or it cannot be written.
        """
        place = check_table(path)
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        sets = [self, *others]
        table.writerow(["image", *(["set"] if others else []), *self.columns])
        for scores in sets:
            rows = zip(*(column.tolist() for column in scores.columns.values()), strict=True)
            for name, row in zip(scores.names, rows, strict=True):
                table.writerow([name, *([scores.images] if others else []), *map(repr, row)])
        write_output(place, file.getvalue())

    def __repr__(self) -> str:
        return f"<hvdsl.Scores of {self.images}: {self.bits_per_dim.mean().item():.4f} bits/dim>"


def check_table(path: str | os.PathLike[str]) -> Path:
    """Return the path of a table. Raises UsageError where it does not end in `.csv`."""
    if Path(path).suffix.lower() != ".csv":
        raise UsageError(f"scores cannot be written as `{path}`: give a file that ends in .csv")
    return Path(path)


def roc(images: Tensor, others: Tensor) -> Roc:
    """Return the characteristic of a score, `(N,)` of the images and `(M,)` of the others."""
    first, second = (values.double().numpy() for values in (images, others))
    thresholds: NDArray[np.float64] = np.unique(np.concatenate([first, second]))[::-1]

    def share(values: NDArray[np.float64]) -> NDArray[np.float64]:
        above = len(values) - np.searchsorted(np.sort(values), thresholds, side="left")
        return np.concatenate([[0.0], above / len(values)])

    false, true = share(first), share(second)
    return Roc(tuple(false.tolist()), tuple(true.tolist()), float(np.trapezoid(true, false)))


def score_any(
    opened: Opened,
    images: ImagesLike | None,
    data: str | os.PathLike[str] | None,
    split: Split | None,
    samples: int,
    llr: int | None,
    batch: int,
    seed: int,
    console: Console | None,
    given: Mapping[str, GivenValue] | None,
) -> Scores:
    """Score given images, those at a place, or those of a run; see `Trained.score`.

    Raises:
        HvdslError: the images do not fit, or as `score`.
    """
    if images is not None and (data is not None or split is not None):
        raise UsageError("given images are all that is scored: leave out `data` and `split`")
    chosen: PixelSource
    if images is None:
        stored = used_images(opened.run, opened.data, None if data is None else Path(data), split)
        chosen = regiven(opened.module, stored, given, opened.data, class_names(opened.run))
        names = stored.names(range(len(stored)))
    else:
        chosen = GivenImages(*opened.images(images, given))
        names = image_names(images, len(chosen))
    return score(opened, chosen, names, samples=samples, llr=llr, batch=batch, seed=seed, console=console)


def score(
    opened: Opened,
    images: PixelSource,
    names: Sequence[str],
    *,
    samples: int = 1,
    llr: int | None = None,
    batch: int = 64,
    seed: int = 0,
    console: Console | None = None,
) -> Scores:
    """Score each image of a source, which are called `names`.

    Raises:
        HvdslError: the likelihood is an error and no density, there are no images, or not so many groups.
    """
    vae = as_vae(opened.module)
    k = len(vae.LATENTS) // 2 if llr is None else llr
    _check(opened, len(images), samples, k)
    noise_seed = derive_seed(seed, "evaluation noise")
    columns: list[list[Tensor]] = []
    with inference(opened.module) as device, showing("images", console) as show:
        for indices in chunks(range(len(images)), batch):
            raw, fields = read_with_fields(images, indices, fields_of(opened.module))
            v, given = torch.from_numpy(raw.astype(np.float32)).to(device), as_tensors(fields)
            whole = score_images(opened.module, v, indices, samples, noise_seed, given)
            part = score_images(opened.module, v, indices, samples, noise_seed, given, from_prior=k) if k else whole
            tensors = [whole.distortion, whole.rates.T, whole.elbo, whole.bound, whole.bound - part.bound, whole.dims]
            columns.append([tensor.cpu() for tensor in tensors])
            show(indices.stop, len(images))
    distortion, rates, elbo, bound, ratio, dims = (torch.cat(parts) for parts in zip(*columns, strict=True))
    return Scores(
        names=tuple(names),
        groups=tuple(group_names(vae.LATENTS)),
        negative_elbo=-elbo,
        distortion=distortion,
        rates=rates,
        importance_bound=bound if samples > 1 else None,
        llr=ratio if k else None,
        k=k,
        samples=samples,
        dims=dims if hasattr(vae, "weight") else vae.likelihood.dims((v.shape[1], v.shape[2], v.shape[3])),
        images=images.name,
    )


def _check(opened: Opened, images: int, samples: int, k: int) -> None:
    vae = as_vae(opened.module)
    if not vae.likelihood.density:
        raise HvdslError("the likelihood of this model is an error and no density, so there is no bound to score by")
    if not images:
        raise HvdslError("there are no images to score")
    if samples < 1:
        raise HvdslError(f"{samples} posterior samples per image are none: ask for 1 or more")
    if not 0 <= k < max(1, len(vae.LATENTS)):
        raise UsageError(
            f"--llr {k}: so many groups from their priors, of {len(vae.LATENTS)}, leave none from the posterior: give "
            f"0 (no ratio) to {len(vae.LATENTS) - 1}"
        )
