"""From a run, a checkpoint folder or a file of weights to a model with its weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar.source import Source
from hvdsl.runtime.codes.levels import code_levels
from hvdsl.runtime.latents.noise import set_noise_scheme
from hvdsl.runtime.training.folder.checkpoint import MANIFEST, CheckpointError
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.saving import BEST
from hvdsl.runtime.training.folder.weights import copy_into, load_weights, model_tensors
from hvdsl.workflows.compiling import Compiled, compiled
from hvdsl.workflows.conditions import GivenValue, images_with_fields
from hvdsl.workflows.images import ImagesLike
from hvdsl.workflows.runs import class_names, device_of, read_model, read_resolved
from hvdsl.workflows.stages import Autoencoder, autoencoder
from hvdsl.workflows.weights_file import read_weights_file

CheckpointName = Literal["last", "best"] | int


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A model with trained weights, and where they are from."""

    spec: Compiled
    module: nn.Module
    step: int
    run: Run | None
    device: torch.device
    source: Path
    use_ema: bool
    overrides: tuple[str, ...]

    @property
    def data(self) -> Data:
        """The `data` section of the spec."""
        return self.spec.model.settings.data

    def images(self, images: ImagesLike, given: Mapping[str, GivenValue] | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return images as raw pixel values, and the fields beside them; see `images_with_fields`."""
        return images_with_fields(self.module, images, self.data, given, class_names(self.run))


def open_model(
    run: str | os.PathLike[str] | Run,
    checkpoint: CheckpointName,
    use_ema: bool,
    overrides: tuple[str, ...],
    device: str,
) -> Opened:
    """Open what `hvdsl.load` takes; see there.

    Raises:
        HvdslError: it is not a run, has no such checkpoint, or is damaged.
    """
    on = device_of(device)
    if isinstance(run, Run):
        return _of_run(run, checkpoint, use_ema, overrides, on)
    path = Path(run)
    of_checkpoint = (path / MANIFEST).is_file()
    if (path.is_file() or of_checkpoint) and checkpoint != "last":
        raise UsageError(f"{path} is one checkpoint already: leave out `checkpoint`, or give the run")
    if of_checkpoint and (home := _run_around(path)) is not None:
        return _of_run(home, int(path.resolve().name), use_ema, overrides, on)
    if path.is_file():
        return _of_file(path, use_ema, overrides, on)
    if of_checkpoint:
        part = "ema" if use_ema and (path / "ema.safetensors").is_file() else "model"
        return _of_file(path / f"{part}.safetensors", use_ema, overrides, on)
    return _of_run(Run.open(path), checkpoint, use_ema, overrides, on)


def _run_around(checkpoint: Path) -> Run | None:
    """The run that a checkpoint folder stands in; None for a folder that was copied out of it."""
    run = checkpoint.resolve().parent.parent
    inside = checkpoint.resolve().parent.name == "checkpoints" and checkpoint.resolve().name.isdigit()
    return Run.open(run) if inside and (run / "environment.json").is_file() else None


def first_stage(opened: Opened) -> Autoencoder:
    """The first stage of a model of codes, with its digest.

    Raises:
        HvdslError: the model has a continuous latent, or comes from a file, which has no priors beside it.
    """
    code_levels(opened.module)  # says what is wrong where there are none
    if opened.run is None:
        raise HvdslError(f"{opened.source} has no priors beside it: load the run that it is from")
    return autoencoder(opened.run, opened.spec.model, opened.module, opened.step, opened.overrides)


def sampling_weights(opened: Opened) -> nn.Module:
    """The module to sample from: the opened one, unless the spec's `sample` wants other weights than `evaluate`."""
    settings = opened.spec.model.settings
    if opened.run is None or not opened.use_ema or settings.sample.use_ema == settings.evaluate.use_ema:
        return opened.module
    module = opened.spec.build()
    load_weights(module, opened.run, use_ema=settings.sample.use_ema, step=opened.step)
    return module.to(opened.device)


def _of_run(
    run: Run, checkpoint: CheckpointName, use_ema: bool, overrides: tuple[str, ...], device: torch.device
) -> Opened:
    spec = compiled(read_model(run, overrides))
    step = checkpoint_step(run, checkpoint)
    module = spec.build()
    averaged = use_ema and spec.model.settings.evaluate.use_ema
    loaded = load_weights(module, run, use_ema=averaged, step=step)
    return Opened(spec, module.to(device), loaded.step, run, device, run.folder, use_ema, overrides)


def checkpoint_step(run: Run, checkpoint: CheckpointName) -> int | None:
    """The step of a checkpoint by its name; None is the newest.

    Raises:
        CheckpointError: `best` is asked for, and none that is kept was validated.
        UsageError: there is no such name.
    """
    if checkpoint == "last":
        return None
    if isinstance(checkpoint, int):
        return checkpoint
    if checkpoint != "best":
        raise UsageError(f"there is no checkpoint `{checkpoint}`: say `last`, `best` or the step")
    kept = set(run.checkpoints().steps())
    scores: dict[int, float] = {}
    for row in run.metrics():
        if row.get("event") == "validation" and row.get("step") in kept:
            value = next((row[name] for name in BEST if name in row), None)
            if isinstance(value, int | float) and math.isfinite(value):
                scores[row["step"]] = value
    if not scores:
        steps = ", ".join(map(str, sorted(kept))) or "none"
        raise CheckpointError(
            f"no checkpoint of {run.folder} was validated, so none is best: say `last` or a step; it has {steps}"
        )
    return min(scores, key=lambda step: (scores[step], -step))


def _of_file(path: Path, use_ema: bool, overrides: tuple[str, ...], device: torch.device) -> Opened:
    if path.suffix != ".safetensors":
        raise HvdslError(f"{path} is not a .safetensors file: give a run folder, a checkpoint or such a file")
    weights = read_weights_file(path)
    spec = compiled(read_resolved(Source(f"the spec in {path}", weights.spec), overrides))
    module = spec.build()
    copy_into(module, weights.fitting(model_tensors(module)))
    set_noise_scheme(module, weights.noise_scheme)
    return Opened(spec, module.to(device), weights.step, None, device, path, use_ema, overrides)
