"""From a run, a checkpoint folder or a file of weights to a model with its weights."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hvdsl.compiler.settings import Data
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar.files import SUFFIXES as SPEC_SUFFIXES
from hvdsl.grammar.source import Source
from hvdsl.importers.weights import WeightsError
from hvdsl.runtime.codes.levels import code_levels
from hvdsl.runtime.ground.noise import SCHEMES
from hvdsl.runtime.latents.noise import set_noise_scheme
from hvdsl.runtime.training.folder.checkpoint import (
    CONTENT,
    DIGEST,
    MANIFEST,
    NOISE_SCHEME,
    PRIOR_OF,
    SPEC,
    STEP,
    CheckpointError,
    content_is_whole,
)
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.saving import BEST
from hvdsl.runtime.training.folder.weights import copy_into, load_weights, model_tensors
from hvdsl.workflows.compiling import Compiled, compiled
from hvdsl.workflows.conditions import GivenValue, images_with_fields
from hvdsl.workflows.images import ImagesLike
from hvdsl.workflows.runs import class_names, device_of, open_run, read_model, read_resolved
from hvdsl.workflows.stages import Autoencoder, PriorsAlone, autoencoder, codes_alone, open_priors

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
        if self.data.is_codes:
            raise UsageError(PriorsAlone.WITHOUT_IMAGES)
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
    if path.is_file() and path.suffix not in SPEC_SUFFIXES:
        return _of_file(path, use_ema, overrides, on)
    if of_checkpoint:
        part = "ema" if use_ema and (path / "ema.safetensors").is_file() else "model"
        return _of_file(path / f"{part}.safetensors", use_ema, overrides, on)
    return _of_run(open_run(path), checkpoint, use_ema, overrides, on)


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
    if not opened.spec.model.is_of_codes:
        code_levels(opened.module)  # says what is wrong where there are none
    if opened.run is None:
        raise HvdslError(f"{opened.source} has no priors beside it: load the run that it is from")
    if opened.spec.model.is_of_codes:
        return codes_alone(opened.run, opened.spec.model, opened.module)
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
    if spec.model.is_of_codes:
        if checkpoint != "last":
            raise UsageError(f"{run.folder} has priors alone, each with checkpoints of its own: the newest are used")
        first = codes_alone(run, spec.model)
        priors = open_priors(first, list(spec.model.priors), lambda s: use_ema and s.evaluate.use_ema, device)
        return Opened(spec, PriorsAlone(priors), 0, run, device, run.folder, use_ema, overrides)
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


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The tensors of a file by name, with the resolved spec that they are of."""

    path: Path
    spec: str
    step: int
    noise_scheme: int
    tensors: Mapping[str, Tensor]

    def fitting(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors, checked against `like` for names, shapes and types.

        Raises:
            WeightsError: one is missing, too many, or of another shape or type.
        """
        for name in sorted(like.keys() | self.tensors.keys()):
            here, there = like.get(name), self.tensors.get(name)
            if here is None or there is None:
                where = "is not in the spec's model" if here is None else "is missing"
                raise WeightsError(f"{self.path} does not fit the spec in it: `{name}` {where}")
            if (here.shape, here.dtype) != (there.shape, there.dtype):
                raise WeightsError(
                    f"{self.path} does not fit the spec in it: `{name}` is {list(there.shape)} {there.dtype} there and "
                    f"{list(here.shape)} {here.dtype} in the model"
                )
        return dict(self.tensors)


def read_weights_file(path: Path) -> WeightsFile:
    """Read a file of weights with its spec; nothing in it is executed.

    Raises:
        WeightsError: it cannot be read, has no spec, or a spec of another digest.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        whole = content_is_whole(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error})") from error
    if not whole:
        raise WeightsError(
            f"{path} is damaged: its content is not what the SHA-256 in its metadata says; where it was changed on "
            f"purpose, leave `{CONTENT}` out of the metadata"
        )
    if SPEC not in metadata:
        raise WeightsError(
            f"{path} has no spec in its metadata: give the run folder, or import it with `hvdsl import … --spec SPEC`"
        )
    if PRIOR_OF in metadata:
        raise WeightsError(f"{path} is the prior of `{metadata[PRIOR_OF]}`, and no model: give its run")
    spec, step = metadata[SPEC], metadata.get(STEP, "0")
    if hashlib.sha256(spec.encode()).hexdigest() != metadata.get(DIGEST):
        raise WeightsError(f"{path} is damaged: the spec in its metadata is not the one that its digest is of")
    if not (step.isascii() and step.isdigit()):
        raise WeightsError(f"{path} is damaged: its metadata says it was trained for `{step}` steps")
    scheme = metadata.get(NOISE_SCHEME, "1")
    if scheme not in map(str, SCHEMES):
        raise WeightsError(f"{path} draws by noise scheme {scheme}, which this version does not know")
    return WeightsFile(path, spec, int(step), int(scheme), tensors)
