"""Specs as modules on a device, run folders as models: what training and every use of a run share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hvdsl.compiler.assembly.files import is_shipped, locate
from hvdsl.compiler.assembly.upgrade import upgraded
from hvdsl.compiler.emit import emit_priors, emit_steps
from hvdsl.compiler.load import load_module
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import write
from hvdsl.compiler.settings import Data
from hvdsl.draw import graph_json
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar import print_text, read_text
from hvdsl.grammar.files import SUFFIXES
from hvdsl.grammar.source import Source
from hvdsl.runtime.data import Dataset, Splits, open_given, open_splits
from hvdsl.runtime.data.hub import noted_place
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import StepsClass
from hvdsl.runtime.training.folder.logs import first_line
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.recipes import compile_recipes
from hvdsl.workflows.compiling import Compiled, Overrides, checked, spelled


def device_of(name: str) -> torch.device:
    """Return the device of that name; `auto` is an accelerator if there is one. Raises UsageError."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without a device's support
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device `{name}` cannot be used: {reason}") from None
    return device


def instantiate(model: Model, seed: int = 0, device: torch.device | None = None, level: int = 1) -> nn.Module:
    """Return the emitted module of a model, initialised from `seed`, on `device`."""
    module = Compiled(model, write(model, level)).build(seed)
    if device:
        module.to(device)
    if level == 2:  # on its device: what is needed to compile depends on that
        compile_recipes(module)
    return module


def instantiate_prior(model: Model, latent: str, seed: int = 0, device: torch.device | None = None) -> nn.Module:
    """Return the emitted prior of a latent, initialised from `seed`, on `device`."""
    alone = replace(model, priors={latent: model.priors[latent]})  # the others need not be written for it
    emitted = load_module(emit_priors(alone), f"{model.settings.model}_priors")
    prior: nn.Module = emitted.PRIORS[latent]()
    initialize(prior, seed)
    return prior.to(device) if device else prior


def steps_of(model: Model, latent: str) -> StepsClass:
    """Return the class of the position-by-position form of a latent's prior, derived now."""
    name = f"{model.settings.model}_steps"
    steps: StepsClass = load_module(emit_steps(model, [latent]), name).STEPS[latent]
    return steps


def create_run(
    folder: Path,
    spec: str | Path | Source,
    model: Model,
    data: Path | None,
    level: int = 1,
    start: Mapping[str, Any] | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """Make a run folder with everything that says what is trained; of several processes the first makes it.

    `environment.json` and the history speak of this machine: they keep where the data is, so that the run can go on.

    Args:
        start: The first line of the run's history, where it is trained.
        class_names: Of each field of classes whose classes have names.
    """
    name, text = _given(spec)
    resolved = print_text(model.resolved)
    files = {
        name: text,
        "resolved.hv": resolved,
        "model.py": write(model, level),
        "graph.json": graph_json(model),
    }
    if start is not None:
        files |= first_line(start, resolved)
    here = world()
    if here.leads:
        given = spec.name if isinstance(spec, Source) else str(spec)
        environment: dict[str, Any] = {"spec": given, "data": noted_place(data) if data else None, "level": level}
        if class_names:
            environment[CLASSES] = {field: list(names) for field, names in class_names.items()}
        Run.create(folder, files, environment)
    here.any(False)  # nobody goes on before the folder is there
    return Run.open(folder)


def _given(spec: str | Path | Source) -> tuple[str, str]:
    """Return the name under which a run keeps its spec as given, and the text."""
    if isinstance(spec, Source):
        return "spec.hv", spec.text
    path, _ = locate(spec)
    return f"spec{path.suffix}", path.read_text(encoding="utf-8")


def open_run(folder: Path) -> Run:
    """Open a run folder.

    Raises:
        HvdslError: it is none; of a spec in its place it says how a run is made of it.
    """
    if (folder.suffix in SUFFIXES and folder.is_file()) or (not folder.exists() and is_shipped(str(folder))):
        raise HvdslError(f"{folder} is a spec, and no run of one: make one with `hvdsl train {folder} --out RUN`")
    return Run.open(folder)


def read_model(run: Run, overrides: Sequence[str] = ()) -> Model:
    """Return the model of a run, from its `resolved.hv`."""
    return read_resolved(Source(str(run.folder / "resolved.hv"), run.spec()), overrides)


def read_resolved(spec: Source, overrides: Sequence[str] = ()) -> Model:
    """Return the model of a resolved spec, as any version wrote it."""
    return checked(upgraded(read_text(spec)), overrides)


CLASSES = "classes"  # where a run's environment keeps the names of classes, by field


def class_names(run: Run | None) -> Mapping[str, Sequence[str]]:
    """Return the names of classes that a run has kept, by field."""
    noted = {} if run is None else run.environment().get(CLASSES, {})
    return noted if isinstance(noted, Mapping) else {}


def _refuse_codes(data: Data) -> None:
    if data.is_codes:
        raise UsageError("`data codes` are codes from a file and no images: what takes or makes images is not for them")


def run_data(run: Run | None, settings: Data, data: Path | None = None) -> Splits:
    """Open the images that a run trains on or is used on: those at `data`, else those that the run has noted.

    The one place where a run's data are opened. Without a run, they are those that the spec names.

    Raises:
        DataError: they are missing, damaged, or not what the spec says.
    """
    _refuse_codes(settings)
    if data is None and run is not None:
        data = run.data
    return open_splits(settings, data, class_names(run))


def used_images(
    run: Run | None, settings: Data, data: Path | None = None, split: str | None = None, default: str = "test"
) -> Dataset:
    """Open the images that a use of a trained run speaks of; see `open_given` for which, and its name for how many.

    Raises:
        DataError: they are missing, damaged, or not what the spec says.
    """
    _refuse_codes(settings)
    return open_given(settings, data, None if run is None else run.data, split, default, class_names(run))


def spread_indices(images: Dataset, number: int) -> list[int]:
    """Return up to `number` places, spread over a data set, so that the images differ."""
    places: list[int] = np.linspace(0, len(images) - 1, min(number, len(images))).astype(int).tolist()
    return places


def open_data(
    spec: str | Path | Source | Compiled,
    *,
    data: str | os.PathLike[str] | None = None,
    variant: str | None = None,
    overrides: Overrides | None = None,
) -> Splits:
    """Open the training, validation and test images of a spec.

    Examples:
        >>> splits = hvdsl.open_data("vdvae_digits")
        >>> splits.train.batch(range(16)).shape
        (16, 1, 8, 8)

    Args:
        spec: what `hvdsl.compile` takes or returns.
        data: where the files are: a folder or an archive; for data that ships, leave it out.
        variant: the variant of the spec, where it is not named behind an `@`.
        overrides: settings, as `{"data.flip": False}`; of a compiled spec they are taken already.

    Returns:
        `train`, `validation` and `test`; each has a length, and `batch(indices, epoch=0)` gives raw pixel values
        `(N, C, H, W)`, whole numbers 0 … 2^bits - 1.

    Raises:
        hvdsl.Error: the files are missing, damaged, or not what the spec says.
    """
    if isinstance(spec, Compiled):
        if overrides or variant:
            raise UsageError("a compiled spec has its overrides and variant already: give them to `hvdsl.compile`")
        settings = spec.model.settings
    else:
        settings = checked(spec, spelled(overrides), variant).settings
    _refuse_codes(settings.data)
    return open_splits(settings.data, None if data is None else Path(data))
