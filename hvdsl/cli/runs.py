"""Runs on the command line: a spec as a module on a device, a run folder as a model with its trained weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from hvdsl.api import Compiled
from hvdsl.cli.options import checked
from hvdsl.compiler.assembly.files import locate
from hvdsl.compiler.emit import emit, emit_priors, emit_steps
from hvdsl.compiler.emit.names import identifier
from hvdsl.compiler.load import load
from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import ModelSettings
from hvdsl.draw.export import graph_json
from hvdsl.errors import UsageError
from hvdsl.grammar import print_text
from hvdsl.grammar.source import Source
from hvdsl.runtime.data import Splits, open_data
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import StepsClass
from hvdsl.runtime.training.compilation import compile_recipes
from hvdsl.runtime.training.run import Run
from hvdsl.runtime.training.weights import load_weights


@dataclass(frozen=True, slots=True)
class Trained:
    """A run, opened for use."""

    run: Run
    model: Model
    module: nn.Module  # with the run's weights, on its device
    step: int
    data: Path | None  # where the run's data was read from, as far as it is known

    def splits(self) -> Splits:
        return open_data(self.model.settings.data, self.data)


def use_machine(args: argparse.Namespace) -> torch.device:
    """Apply `--threads`, and return the device of `--device`."""
    if args.threads:
        torch.set_num_threads(args.threads)
    return device_of(args.device)


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
    module = Compiled(model, emit(model, level)).build(seed)
    if device:
        module.to(device)
    if level == 2:  # on its device: what is needed to compile depends on that
        compile_recipes(module)
    return module


def instantiate_prior(model: Model, latent: str, seed: int = 0, device: torch.device | None = None) -> nn.Module:
    """Return the emitted prior of a latent, initialised from `seed`, on `device`."""
    alone = replace(model, priors={latent: model.priors[latent]})  # the others need not be written for it
    emitted = load(emit_priors(alone), f"{identifier(model.settings.model)}_priors")
    prior: nn.Module = emitted.PRIORS[identifier(latent)]()
    initialize(prior, seed)
    return prior.to(device) if device else prior


def steps_of(model: Model, latent: str) -> StepsClass:
    """Return the class of the position-by-position form of a latent's prior, derived now."""
    name = f"{identifier(model.settings.model)}_steps"
    steps: StepsClass = load(emit_steps(model, [latent]), name).STEPS[latent]
    return steps


def create_run(folder: Path, spec: str, model: Model, data: Path | None, level: int = 1) -> Run:
    """Make a run folder with everything that says what is trained; of several processes the first makes it."""
    path, _ = locate(spec)
    files = {
        f"spec{path.suffix}": path.read_text(encoding="utf-8"),
        "resolved.hv": print_text(model.resolved),
        "model.py": emit(model, level),
        "graph.json": graph_json(model),
    }
    here = world()
    if here.leads:
        environment = {"spec": spec, "data": str(data.resolve()) if data else None, "level": level}
        Run.create(folder, files, environment)
    here.any(False)  # nobody goes on before the folder is there
    return Run.open(folder)


def read_model(run: Run, overrides: Sequence[str] = ()) -> Model:
    """Return the model of a run, from its `resolved.hv`."""
    return checked(Source(str(run.folder / "resolved.hv"), run.read("resolved.hv")), overrides)


def data_path(run: Run, given: Path | None) -> Path | None:
    """Return where a run's data is: as given, else as the run has noted."""
    if given is not None:
        return given
    noted = run.environment().get("data")
    return Path(noted) if noted else None


def level_of(run: Run) -> int:
    """Return the optimisation level that a run was made with."""
    return int(run.environment().get("level", 1))


def open_trained(args: argparse.Namespace, use_ema: Callable[[ModelSettings], bool]) -> Trained:
    """Open the run that a command names; `use_ema` says whether the spec wants averaged weights."""
    device = use_machine(args)
    run = Run.open(args.run_folder)
    model = read_model(run, args.overrides)
    module = instantiate(model)
    checkpoint = load_weights(module, run, use_ema=args.use_ema and use_ema(model.settings), step=args.step)
    module.to(device)
    return Trained(run, model, module, checkpoint.step, data_path(run, getattr(args, "data", None)))
