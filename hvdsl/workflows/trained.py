"""A trained model, opened for use: scores, latents, reconstructions, samples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from hvdsl.errors import UsageError
from hvdsl.runtime.priors.sampling import Schedule
from hvdsl.runtime.training.folder.run import Run
from hvdsl.workflows.calls import no_global_effect
from hvdsl.workflows.code_priors import CodePriors
from hvdsl.workflows.compiling import Compiled, Overrides, spelled
from hvdsl.workflows.conditions import GivenValue
from hvdsl.workflows.edit import Edits, edit_images
from hvdsl.workflows.evaluate import EvaluationResult, ImageElbo, Split, evaluate_any, image_elbo
from hvdsl.workflows.export import export
from hvdsl.workflows.images import ImagesLike, MaskLike
from hvdsl.workflows.interpolate import Curve, interpolate_images
from hvdsl.workflows.latents import Latents, decode_latents, infer
from hvdsl.workflows.open import CheckpointName, Opened, open_model
from hvdsl.workflows.reconstruct import INPAINTING_STEPS, paint_in, reconstruct_images
from hvdsl.workflows.sample import SampleOptions, draw_samples, per_name
from hvdsl.workflows.score import Scores, score_any

BATCH = 64


class Trained(CodePriors):
    """A trained model, as `hvdsl.load` returns it.

    Images go in as raw pixel values in the units of the spec's `data` section, `(N, H, W)`, `(N, H, W, C)` or
    `(N, C, H, W)`, numpy or torch, uint8 (or any whole numbers), or as image files, which go through that section's
    steps; pixels come out as `(N, C, H, W)` tensors of uint8 (uint16 above 8 bits) on the CPU, but means of pixels that
    are 0 or 1 (`binarize`, one bit) as float32 between. Floats are refused as images: values in [0, 1] would be scored
    as nearly black. What a model is conditioned on goes in as `given`, by
    name: classes by number or by their folder's name, numbers, each taken in turn, a tensor `(N, …)`, image files, or
    "none". Every random draw is a function of the `seed` given to the
    method; nothing depends on `batch` but memory.

    Examples:
        >>> trained = hvdsl.load("runs/digits")
        >>> trained.sample(16, temperature=0.8).shape
        torch.Size([16, 1, 8, 8])

    Attributes:
        model: the `torch.nn.Module` with the trained weights, on `device`.
        spec: the compiled spec.
        step: how many steps the weights were trained.
        run: the run folder; None for a model from a single file.
        device: where the model is.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.model: nn.Module = opened.module
        self.spec: Compiled = opened.spec
        self.step: int = opened.step
        self.run: Run | None = opened.run
        self.device: torch.device = opened.device

    def __repr__(self) -> str:
        place = self._opened.source
        return f"<hvdsl.Trained {self.spec.model.settings.model}: step {self.step} of {place}, on {self.device}>"

    def elbo(
        self,
        images: ImagesLike,
        *,
        samples: int = 1,
        batch: int = BATCH,
        seed: int = 0,
        given: Mapping[str, GivenValue] | None = None,
    ) -> ImageElbo:
        """Score each image.

        Args:
            images: see the class.
            samples: posterior samples per image, K; with more than one the bound is the importance-weighted one
                (Burda et al. 2016).
            batch: images per pass.
            seed: of the posterior samples. Image i of the batch meets the noise of number i.
            given: what the images are conditioned on; see the class.

        Returns:
            the bound, distortion and rates of each image in nats, float64 on the CPU.

        Raises:
            hvdsl.Error: the images do not fit, or the likelihood is an error and no density.
        """
        with no_global_effect():
            pixels, fields = self._opened.images(images, given)
            return image_elbo(self.model, pixels, fields, samples=samples, batch=batch, seed=seed)

    def latents(
        self,
        images: ImagesLike,
        *,
        sample: bool = True,
        batch: int = BATCH,
        seed: int = 0,
        given: Mapping[str, GivenValue] | None = None,
    ) -> Latents:
        """Tell of each latent group what its posterior says of the images: mean, scale, z, rate in nats, codes.

        Each group's posterior is given the z of the groups before it: drawn ones, or with `sample = False` the
        posterior means (of bits, classes and codes the most probable), which is what `encode` takes.

        Raises:
            hvdsl.Error: the images do not fit.
        """
        with no_global_effect():
            pixels, fields = self._opened.images(images, given)
            return infer(self.model, pixels, sample=sample, seed=seed, batch=batch, given=fields)

    def encode(
        self, images: ImagesLike, *, batch: int = BATCH, given: Mapping[str, GivenValue] | None = None
    ) -> dict[str, Tensor]:
        """Return what `decode` turns back into the reconstruction: of each group its posterior mean, or its codes.

        z is `(N, Z, H, W)`, after the group's flow where it has one; codes are `(N, H, W)` int64, or
        `(N, depth, H, W)`. In equal batches `decode(encode(x))` equals `reconstruct(x)` bit for bit.

        Raises:
            hvdsl.Error: the images do not fit.
        """
        return self.latents(images, sample=False, batch=batch, given=given).values

    def decode(
        self,
        latents: Mapping[str, Tensor] | Latents,
        *,
        temperature: float | None = None,
        batch: int = BATCH,
        seed: int = 0,
        given: Mapping[str, GivenValue] | None = None,
    ) -> Tensor:
        """Return the images of latents, pixels `(N, C, H, W)`: the likelihood's mean.

        Args:
            latents: by group, as `encode` gives them, edited as one likes. Groups that are absent are drawn from
                their priors.
            temperature: factor on the scale of those priors (default: the spec's).
            batch: images per pass.
            seed: of those draws.
            given: what the images are conditioned on.

        Raises:
            hvdsl.Error: there is no such group, a shape does not fit, or a group of codes is absent.
        """
        with no_global_effect():
            return decode_latents(self._opened, latents, temperature=temperature, seed=seed, batch=batch, given=given)

    def reconstruct(
        self,
        images: ImagesLike,
        *,
        keep: int | None = None,
        temperature: float | None = None,
        mask: MaskLike | None = None,
        steps: int = INPAINTING_STEPS,
        batch: int = BATCH,
        seed: int = 0,
        given: Mapping[str, GivenValue] | None = None,
    ) -> Tensor:
        """Return the images as their first `keep` latent groups know them (default: all), pixels `(N, C, H, W)`.

        Those groups take their posterior mean; the rest are drawn from their priors at `temperature` (default 0.1;
        of a model of codes the rest takes its mean, which has no temperature).

        Args:
            images: see the class.
            keep: how many groups.
            temperature: of the others.
            mask: paint in what is not 0 here, `(H, W)` or a picture of that size: the images are returned with these
                pixels as the latents have them that best explain the others. Of continuous latents.
            steps: updates of those latents.
            batch: images per pass.
            seed: of the draws.
            given: what the images are conditioned on.

        Raises:
            hvdsl.Error: the images do not fit, there are not so many groups, or the model cannot paint in.
        """
        if mask is not None and (keep is not None or temperature is not None):
            raise UsageError("--mask paints in by the latents of all groups: leave out what says which are kept")
        with no_global_effect():
            if mask is not None:
                return paint_in(self._opened, images, mask, steps=steps, batch=batch, given=given)
            return reconstruct_images(
                self._opened, images, keep=keep, temperature=temperature, batch=batch, seed=seed, given=given
            )

    def sample(
        self,
        n: int,
        *,
        temperature: float | Mapping[str, float] | None = None,
        recalibrate: int | None = None,
        mean: bool = False,
        batch: int = BATCH,
        seed: int = 0,
        top_k: int | Mapping[str, int] | None = None,
        top_p: float | Mapping[str, float] | None = None,
        label: int | Sequence[int] = (),
        fix: Mapping[str, str | os.PathLike[str] | Tensor] | None = None,
        keep: str | os.PathLike[str] | Mapping[str, Tensor] | None = None,
        mask: str | os.PathLike[str] | NDArray[Any] | None = None,
        schedule: Schedule | Mapping[str, Schedule] | None = None,
        given: Mapping[str, GivenValue] | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Draw `n` images, pixels `(n, C, H, W)`. Image i depends on (seed, i) alone.

        Args:
            n: how many.
            temperature: factor on the scale of every prior, or divisor of the logits of codes: one for all, or by group
                (place, name or resolution) or level of codes, `{"8x8": 0.7, "else": 0.9}` (default: the spec's).
            recalibrate: first measure batch-norm statistics on so many passes of prior samples (default: the spec's;
                0: do not). The model's own statistics stay as they are.
            mean: return the likelihood's mean, not a draw from it.
            batch: images per pass.
            seed: of every random draw.
            top_k: draw from so many most probable codes.
            top_p: draw from the most probable codes that together reach this probability.
            label: the classes of the images, taken in turn; short for `given = {"label": …}`.
            fix: the latents of some groups, or codes of levels, `(N, …)`, or a file of them; the rest is drawn.
            keep: with `mask`, the codes of images to be painted in, or a file of them.
            mask: what to draw anew, `(H, W)`, or a picture: everything but 0 or black.
            schedule: `raster`, codes one by one (default), or `wavefront`, at once what does not see each other.
            given: what the images are conditioned on, by name, each taken in turn; see the class.
            guidance: w of classifier-free guidance (Ho & Salimans 2022), where training left conditions out (`drop`):
                1 is plain sampling, 0 sampling without conditions, more than 1 goes further the way they point.

        `top_k`, `top_p`, `keep`, `mask` and `schedule` are for models of codes with trained priors.

        Raises:
            hvdsl.Error: a prior is missing, or an argument does not apply or fit.
        """
        fixed = {} if fix is None else fix
        options = SampleOptions(
            n=n,
            temperature=per_name(temperature),
            recalibrate=recalibrate,
            mean=mean,
            batch=batch,
            seed=seed,
            top_k=per_name(top_k),
            top_p=per_name(top_p),
            label=(label,) if isinstance(label, int) else tuple(label),
            fix=tuple((name, c if isinstance(c, Tensor) else Path(c)) for name, c in fixed.items()),
            keep=keep if keep is None or isinstance(keep, Mapping) else Path(keep),
            mask=Path(mask) if isinstance(mask, str | os.PathLike) else None if mask is None else np.asarray(mask) > 0,
            schedule=per_name(schedule),
            given=tuple((given or {}).items()),
            guidance=guidance,
        )
        with no_global_effect():
            return draw_samples(self._opened, options)

    def edit(
        self,
        images: ImagesLike,
        changes: Mapping[str, GivenValue],
        *,
        given: Mapping[str, GivenValue] | None = None,
        batch: int = BATCH,
    ) -> Edits:
        """Return what images would be under changed conditions: counterfactuals (de Sousa Ribeiro et al. 2023).

        What the model's priors do not explain of each latent group is kept, and so is the pixels' own noise where the
        likelihood has a location and a scale: unchanged conditions then give the images back exactly.

        Args:
            images: see the class.
            changes: conditions as they are to be, as `{"age": 80}`.
            given: conditions as they are, where the images do not bring them.
            batch: images per pass.

        Raises:
            hvdsl.Error: the images do not fit, or there is no such condition.
        """
        with no_global_effect():
            return edit_images(self._opened, images, changes, given, batch)

    def evaluate(
        self,
        images: ImagesLike | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        split: Split | None = None,
        samples: int | None = None,
        baselines: bool = False,
        batch: int = BATCH,
        seed: int = 0,
        console: Console | None = None,
        given: Mapping[str, GivenValue] | None = None,
    ) -> EvaluationResult:
        """Evaluate a split of the run's data, or given images, in bits per dimension.

        Args:
            images: these and not a split of data; see the class.
            data: other images: all of them, in order; of data with parts of their own the test part, or `split`.
            split: `train`, `validation` or `test` of the data (default: test).
            samples: posterior samples per image (default: the spec's); more than 1: importance-weighted.
            baselines: also say what PNG and a histogram of the training images need for the same images.
            batch: images per pass.
            seed: of the posterior samples.
            console: where to show progress.
            given: what the images are conditioned on, in place of what the data bring with them.

        Raises:
            hvdsl.Error: there are no images, or the bound is not finite.
        """
        with no_global_effect():
            return evaluate_any(self._opened, images, data, split, samples, baselines, batch, seed, console, given)

    def score(
        self,
        images: ImagesLike | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        split: Split | None = None,
        samples: int = 1,
        llr: int | None = None,
        batch: int = BATCH,
        seed: int = 0,
        console: Console | None = None,
        given: Mapping[str, GivenValue] | None = None,
    ) -> Scores:
        """Score each image by the bound and by a likelihood ratio, with the images' names; see `Scores`.

        Args:
            images: these; see the class.
            data: or the images at a place: all of them, in order; of data with parts of their own the test part, or
                `split`. With neither, those of the run.
            split: `train`, `validation` or `test` of the data (default: test).
            samples: posterior samples per image, K; more than 1: also the importance-weighted bound.
            llr: k of LLR^{>k}, how many of the last groups are drawn from their priors (default: half; 0: no ratio).
            batch: images per pass.
            seed: of the posterior samples.
            console: where to show progress.
            given: what the images are conditioned on, in place of what they bring with them.

        Raises:
            hvdsl.Error: there are no images, not so many groups, or the likelihood is an error and no density.
        """
        with no_global_effect():
            return score_any(self._opened, images, data, split, samples, llr, batch, seed, console, given)

    def interpolate(
        self,
        first: ImagesLike,
        second: ImagesLike | None = None,
        *,
        groups: str | None = None,
        steps: int = 8,
        curve: Curve = "spherical",
        batch: int = BATCH,
        seed: int = 0,
        given: Mapping[str, GivenValue] | None = None,
    ) -> Tensor:
        """Return images on the way from one image to another, pixels `(steps, C, H, W)`, the two included.

        The latents of both are posterior means; those of the chosen groups go from the first image's to the second's,
        all others stay the first image's, and what the images are conditioned on goes with them, in a straight line.
        Bits and classes change half way.

        Args:
            first: one image.
            second: one image; without it the chosen groups go to what their priors draw.
            groups: places (`3`, `0:10`), names or resolutions (`8x8`), parted by commas (default: all).
            steps: how many images.
            curve: `spherical`, on a great circle through each group's values (Shoemake 1985), or `linear`.
            batch: images per pass.
            seed: of what priors draw.
            given: what the images are conditioned on, in place of what they bring with them: one value, or two, the
                first image's and the second's.

        Raises:
            hvdsl.Error: the images do not fit, there is no such group, or all latents are codes.
        """
        with no_global_effect():
            return interpolate_images(self._opened, first, second, groups, steps, curve, batch, seed, given)

    def export(
        self, output: str | os.PathLike[str], *, license: str | None = None, console: Console | None = None
    ) -> list[Path]:
        """Write the model for others; returns the files, once each gave the same in a process without this package.

        `model.pt2` holds exported programs (`torch.export`), `model.onnx` stands for a graph each
        (`model.encode.onnx`, …): encode, decode, reconstruct by means, and sample, with the noise as input and any
        number of images. A folder holds what model hubs take: weights with their spec, a `model.py` that needs torch
        alone, the spec, and a model card with numbers and pictures.

        Args:
            output: a file that ends in `.pt2` or `.onnx`, or a folder that is not there yet.
            license: of the weights, for the model card.
            console: where to show progress.

        Raises:
            hvdsl.Error: the ending is none of these, an extra is missing, or what was written does not give what the
                model gives.
        """
        return export(self._opened, output, license=license, console=console)


def load(
    run: str | os.PathLike[str] | Run,
    *,
    checkpoint: CheckpointName = "last",
    use_ema: bool = True,
    overrides: Overrides | None = None,
    device: str = "auto",
) -> Trained:
    """Open a trained model.

    Examples:
        >>> trained = hvdsl.load("runs/digits", checkpoint="best")

    Args:
        run: a run folder, a checkpoint folder within one (`RUN/checkpoints/1000`), or one safetensors file whose
            metadata has the spec.
        checkpoint: `last`, `best` (the lowest bound on the validation images among those kept), or the step.
        use_ema: take the running average of the weights, where the spec's `evaluate` and `sample` sections want it.
        overrides: settings of the run's spec, such as `{"sample.temperature": 0.8}`.
        device: `cpu`, `cuda`, `cuda:1`, …; `auto` is an accelerator if there is one.

    Raises:
        hvdsl.Error: it is not a run, has no such checkpoint, or is damaged.
    """
    with no_global_effect():
        return Trained(open_model(run, checkpoint, use_ema, spelled(overrides), device))
