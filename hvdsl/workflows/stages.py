"""The stages of a discrete hierarchy: its autoencoder, the codes that it makes, a prior per latent.

The autoencoder is the run itself, like any other model. `codes/<split>` are its codes. `priors/<latent>` is a run of
its own, with the spec that it was trained from; its `environment.json` says of which autoencoder and data its codes
are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from hvdsl.compiler.emit import emit_priors
from hvdsl.compiler.model import Model, structure
from hvdsl.compiler.settings import Data, ModelSettings
from hvdsl.errors import HvdslError
from hvdsl.grammar import print_text
from hvdsl.runtime.codes.extract import stored_codes
from hvdsl.runtime.codes.levels import CodesError, Level, code_levels
from hvdsl.runtime.codes.source import CodeFile, code_parts, held_out, levels_of, read_code_file
from hvdsl.runtime.codes.store import CodeStore, Identity, autoencoder_digest
from hvdsl.runtime.data import Dataset
from hvdsl.runtime.data.names import TEST, TRAIN, VALIDATION
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.latents import Condition
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.training.folder.logs import first_line
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import load_weights
from hvdsl.workflows.calls import showing
from hvdsl.workflows.conditions import fields_read, runtime_condition
from hvdsl.workflows.runs import instantiate, instantiate_prior, read_model, steps_of, used_images


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """The trained first stage of a run; of a run over codes from a file, what stands in its place.

    There `module` has the trained priors, by level, and `digest` is what the file says of where its codes are from.
    """

    run: Run
    model: Model
    module: nn.Module  # with the weights that make the codes, on its device
    step: int
    digest: str
    overrides: tuple[str, ...] = ()  # of the run's spec, and so of its priors' specs

    @property
    def levels(self) -> tuple[Level, ...]:
        return levels_of(self.model.settings.data) if self.model.is_of_codes else code_levels(self.module)

    @property
    def dims(self) -> int:
        """Values of an image."""
        return math.prod(self.model.settings.data.shape)


def open_autoencoder(
    run: Run, device: torch.device, *, step: int | None = None, overrides: Sequence[str] = ()
) -> Autoencoder:
    """Open the first stage of a run with the weights that make its codes: averaged ones if `evaluate.use_ema`."""
    model = read_model(run, overrides)
    module = instantiate(model)
    checkpoint = load_weights(module, run, use_ema=model.settings.evaluate.use_ema, step=step)
    return autoencoder(run, model, module.to(device), checkpoint.step, overrides)


def autoencoder(run: Run, model: Model, module: nn.Module, step: int, overrides: Sequence[str] = ()) -> Autoencoder:
    """Return a run's first stage, once its weights are loaded; `model` is the run's spec with these `overrides`."""
    return Autoencoder(run, model, module, step, autoencoder_digest(module, structure(model)), tuple(overrides))


class PriorsAlone(nn.Module):
    """Priors over codes from a file, by level, with no model of images."""

    WITHOUT_IMAGES = "these are priors over codes from a file: there are no images to take in, and none to make"

    def __init__(self, priors: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.priors = nn.ModuleDict(priors)


def codes_alone(run: Run, model: Model, priors: nn.Module | None = None) -> Autoencoder:
    """Return what stands in the place of the first stage in a run over codes from a file.

    Raises:
        CodesError: the run has no codes.
    """
    digest = CodeStore.open(code_folder(run, TRAIN)).identity.autoencoder
    return Autoencoder(run, model, PriorsAlone({}) if priors is None else priors, 0, digest)


def code_folder(run: Run, split: str) -> Path:
    """Return where the codes of a split are stored."""
    return run.folder / "codes" / split


CodeParts = dict[str, tuple[CodeFile, NDArray[np.int64]]]
"""By split, the file of its codes, and which of the file's images are in it."""


def read_file_codes(data: Data, place: Path | None, *, whole: bool = False) -> CodeParts:
    """Read the codes that `data codes` names, or those at `place`.

    Args:
        whole: leave a single file whole, and hold nothing out.

    Raises:
        CodesError: there are none, or they are not what the spec says.
    """
    named = place or (None if data.source is None else Path(data.source))
    if named is None:
        raise CodesError("which codes? Name a file of them with `--data`, or write `source` into `data` of the spec")
    conditions = [runtime_condition(field) for field in data.conditions]
    files = {part: read_code_file(p, levels_of(data), conditions) for part, p in code_parts(named).items()}
    parts = {part: (file, np.arange(len(file))) for part, file in files.items()}
    if VALIDATION not in parts and not whole:
        file = files[TRAIN]
        kept, held = held_out(len(file), data)
        parts |= {TRAIN: (file, kept), VALIDATION: (file, held)}
    return parts


def file_codes(run: Run, model: Model, place: Path | None = None) -> dict[str, CodeStore]:
    """Return the codes that the file at `place` (by default, of the run) holds, by split, stored in the run.

    Where the run's file is gone, those that the run has stored are taken.

    Raises:
        CodesError: there are none, or they are not what the spec says.
    """
    data = model.settings.data
    named = place or run.data or (None if data.source is None else Path(data.source))
    stored = {part: code_folder(run, part) for part in (TRAIN, VALIDATION, TEST)}
    if place is None and stored[TRAIN].exists() and (named is None or not named.exists()):
        return {part: CodeStore.open(folder) for part, folder in stored.items() if folder.exists()}
    parts = read_file_codes(data, named)
    return {part: file.store(stored[part], rows, part, world()) for part, (file, rows) in parts.items()}


def extract(
    first: Autoencoder,
    images: Dataset,
    split: str,
    batch: int | None = None,
    console: Console | None = None,
    model: Model | None = None,
) -> CodeStore:
    """Return the codes of a split, extracted now if the run has none of this autoencoder and data.

    Args:
        model: Another spec, whose priors are to be trained on the codes.
    """
    with showing(f"codes of the {split} images", console) as show:
        return stored_codes(
            first.module,
            images.unaugmented(),
            code_folder(first.run, split),
            first.digest,
            conditions=_beside(first.model, *([] if model is None else [model])),
            batch=batch or 64,
            world=world(),
            progress=show,
        )


def _beside(model: Model, *others: Model) -> list[Condition]:
    """Fields that stand beside codes: classes, and the numbers that priors are given."""
    read = {name for each in (model, *others) for name in fields_read(each.priors.values())}
    return [runtime_condition(f) for f in model.settings.data.conditions if f.classes is not None or f.name in read]


def codes_of_images(
    first: Autoencoder,
    data: Path | None = None,
    split: str | None = None,
    batch: int | None = None,
    console: Console | None = None,
) -> tuple[CodeStore, Dataset]:
    """Return the codes of the images at `data` (of a part, where they have some), or of a split of the run's data
    (default: train), and these images."""
    images = used_images(first.run, first.model.settings.data, data, split, "train")
    folder = split or "train" if data is None else "given"
    return extract(first, images, folder, batch, console), images


def prior_folder(run: Run, latent: str) -> Path:
    """Return where a prior is trained."""
    return run.folder / "priors" / latent


def create_prior_run(
    run: Run, model: Model, latent: str, identity: Identity, start: Mapping[str, Any] | None = None
) -> Run:
    """Make the folder of a prior; of several processes the first makes it."""
    folder, here = prior_folder(run, latent), world()
    if here.leads:
        resolved = print_text(model.resolved)
        files = {"resolved.hv": resolved, "model.py": emit_priors(model)}
        if start is not None:
            files |= first_line(start, resolved)
        Run.create(folder, files, {"codes": asdict(identity)})
    here.any(False)  # nobody goes on before the folder is there
    return Run.open(folder)


def check_identity(stage: Run, autoencoder: str, data: str | None = None) -> None:
    """Refuse a prior of other codes than those of this autoencoder, and of this data where it is given.

    Raises:
        CodesError: it was trained on others, or does not say on which.
    """
    try:
        noted = stage.environment()["codes"]
        trained = Identity(noted["autoencoder"], noted["data"])
    except (KeyError, TypeError) as error:
        raise CodesError(f"{stage.folder}/environment.json does not say which codes the prior is of") from error
    for what, here, there in (("autoencoder", autoencoder, trained.autoencoder), ("data", data, trained.data)):
        if here is not None and there != here:
            raise CodesError(
                f"the prior in {stage.folder} was trained on other codes: its {what} was {there[:12]}, this one is "
                f"{here[:12]}; use the checkpoint and data that it was trained with, or remove that folder and train "
                "it anew"
            )


def open_prior(
    first: Autoencoder, latent: str, use_ema: Callable[[ModelSettings], bool], device: torch.device | None = None
) -> nn.Module | None:
    """Return the trained prior of a latent, on the autoencoder's device, or another; None if there is none.

    Args:
        use_ema: Whether the prior's spec wants the averaged weights.

    Raises:
        CodesError: it was trained on other codes.
    """
    folder = prior_folder(first.run, latent)
    if not folder.exists():
        return None
    stage = Run.open(folder)
    if stage.checkpoints().latest() is None:
        return None
    check_identity(stage, first.digest)
    model = _model_of(stage, first, latent)
    prior = instantiate_prior(model, latent)
    load_weights(prior, stage, use_ema=use_ema(model.settings))
    return prior.to(device or next(first.module.parameters()).device)


def _model_of(stage: Run, first: Autoencoder, latent: str) -> Model:
    """The spec that a prior was trained from."""
    alike = stage.spec() == first.run.spec()
    model = first.model if alike else read_model(stage, first.overrides)
    if latent not in model.priors:
        raise HvdslError(f"{stage.folder}/resolved.hv has no `prior {latent}`: the folder is of another latent")
    return model


def with_steps(first: Autoencoder, priors: Mapping[str, nn.Module]) -> dict[str, StepwisePrior]:
    """Derive the forms in which code maps are drawn position by position, for trained priors of a run."""
    models = {latent: _model_of(Run.open(prior_folder(first.run, latent)), first, latent) for latent in priors}
    return {latent: StepwisePrior(prior, steps_of(models[latent], latent)) for latent, prior in priors.items()}


def open_priors(
    first: Autoencoder,
    latents: Sequence[str],
    use_ema: Callable[[ModelSettings], bool],
    device: torch.device | None = None,
) -> dict[str, nn.Module]:
    """Return the trained priors of these latents, by latent."""
    opened = {latent: open_prior(first, latent, use_ema, device) for latent in latents}
    return {latent: prior for latent, prior in opened.items() if prior is not None}
