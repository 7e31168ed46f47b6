"""One second stage: a prior over the codes of a run's autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar.source import Source
from hvdsl.runtime.codes.levels import Level
from hvdsl.runtime.codes.store import CodeStore, Identity
from hvdsl.runtime.data.names import TRAIN, VALIDATION
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.latents.noise import noise_scheme
from hvdsl.runtime.priors.stage import PriorTask, check_levels, names_of, score_codes
from hvdsl.runtime.training.folder.run import Run, RunError, default_folder
from hvdsl.runtime.training.sinks import Sink
from hvdsl.runtime.training.trainer import Graphs, Periodic, Trainer, TrainingResult
from hvdsl.workflows.calls import say
from hvdsl.workflows.plan import recompute_within
from hvdsl.workflows.runs import create_run, instantiate_prior, read_model, run_data
from hvdsl.workflows.stages import (
    Autoencoder,
    check_identity,
    create_prior_run,
    extract,
    file_codes,
    open_autoencoder,
    prior_folder,
    read_file_codes,
)
from hvdsl.workflows.starts import Start, hold, note_start


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorOptions:
    """How a prior is trained; `TrainOptions` says what each means."""

    latent: str
    overrides: tuple[str, ...]
    resume: bool
    checkpoint: int | None
    data: Path | None
    workers: int
    device: torch.device
    sinks: Sequence[str | Sink] | None = None
    graphs: Graphs = "auto"


def begin_codes(
    spec: str | Path | Source | None, model: Model, options: PriorOptions, out: Path | None, level: int
) -> Run:
    """Make the folder of a run of priors over codes from a file, once these could be read.

    Raises:
        HvdslError: they cannot, or the folder is there already.
    """
    if spec is None:
        raise AssertionError("a new run has a spec")
    if out is None and world().size > 1:
        raise UsageError("several processes need --out RUN, so that all of them mean the same folder")
    read_file_codes(model.settings.data, options.data)  # what cannot be trained leaves no folder behind
    return create_run(out or default_folder(model.settings.model), spec, model, options.data, level)


def train_prior(
    run: Run, given: Model | None, options: PriorOptions, console: Console | None, held: ExitStack
) -> TrainingResult:
    """Train the prior of a latent, or go on with it; extracts the codes first if there are none of this autoencoder.

    The spec of a prior is the one `given`; else, when it begins, the run's, and from then on its own.

    Raises:
        HvdslError: the spec does not say how, the autoencoder is not trained, or the prior is of other codes.
    """
    latent, device = options.latent, options.device
    folder = prior_folder(run, latent)
    begun = _has_begun(folder, options.resume)
    if begun:
        hold(Run.open(folder), held)
    model = given if given is not None else read_model(Run.open(folder) if begun else run, options.overrides)
    train = _train_section(model, latent)
    prior = instantiate_prior(model, latent, train.seed, device)
    codes = _codes(run, model, prior, options, console)
    start = Start(
        model=model,
        train=train,
        data=options.data if options.data is not None else run.data,
        digest=codes.train.identity.data,
        device=device,
        level=run.level,
        overrides=options.overrides,
        noise_scheme=noise_scheme(prior),
    )
    start.check_ranks()
    stage = _stage(run, start, latent, codes.train.identity, begun, held)
    trainer = _trainer(prior, model, train, codes, stage, run.level, options, console)
    step = trainer.resume(options.checkpoint) if begun else 0
    if begun:
        note_start(stage, replace(start, noise_scheme=noise_scheme(prior)), step)  # that of its checkpoint
    count = f"{len(codes.train):,} images' codes"
    line = f"prior of {latent} on {device}: {count}, from step {step}, folder {stage.folder}"
    say(console, line)
    return trainer.fit()


@dataclass(frozen=True, slots=True)
class _Codes:
    """What a prior is trained and validated on, and the values of an image, where there are images."""

    train: CodeStore
    validation: CodeStore
    dims: int | None


def _codes(run: Run, model: Model, prior: nn.Module, options: PriorOptions, console: Console | None) -> _Codes:
    """The codes of the run's autoencoder, or of its file."""
    if model.is_of_codes:
        stores = file_codes(run, model, options.data)
        check_levels(prior, stores[TRAIN].levels)
        return _Codes(stores[TRAIN], stores[VALIDATION], None)
    first = open_autoencoder(run, options.device)
    check_levels(prior, [*first.levels, *_classes(first)])
    splits = run_data(run, model.settings.data, options.data)
    return _Codes(
        extract(first, splits.train, "train", console=console, model=model),
        extract(first, splits.validation, "validation", console=console, model=model),
        first.dims,
    )


def _trainer(
    prior: nn.Module,
    model: Model,
    train: Train,
    codes: _Codes,
    stage: Run,
    level: int,
    options: PriorOptions,
    console: Console | None,
) -> Trainer:
    """What trains a prior and validates it."""
    names = names_of(prior)
    drop = {field.name: field.drop for field in model.settings.data.conditions}
    trainer = Trainer(
        prior,
        model.settings.model_copy(update={"train": train}),
        codes.train.rows(names),
        run=stage,
        console=console,
        workers=options.workers,
        task=PriorTask(prior, codes.dims, drop),
        sinks=options.sinks,
        graphs=options.graphs,
        level=level,
    )
    recompute_within(trainer, model.priors[options.latent], console)
    held_out = codes.validation.rows(names)

    def validate(step: int) -> dict[str, Any]:
        score = score_codes(trainer.model, held_out, codes.dims, batch=trainer.train.batch, world=trainer.world)
        return score.as_metrics()

    every = trainer.clock.every(trainer.train.evaluate_every)
    trainer.periodic.append(Periodic("validation", every, validate, trainer.settings.evaluate.use_ema))
    return trainer


def _has_begun(folder: Path, resume: bool) -> bool:
    """Whether there is a prior to go on with, which is refused where it is not to `resume`."""
    begun = folder.exists() and not Run(folder).began_nothing
    if begun and not resume:
        raise RunError(f"{folder} exists already: continue it with `--resume`, or remove it")
    return begun


def _train_section(model: Model, latent: str) -> Train:
    """The settings that a prior is trained by."""
    train = model.settings.train_priors.get(latent)
    if train is None:
        raise HvdslError(
            f"`{model.settings.model}` has no `train {latent}` section: add one to the spec, as "
            f"`train {latent} {{ epochs = 100, batch = 32, optimizer = adam(lr = 3e-4) }}`"
        )
    return train


def _classes(first: Autoencoder) -> list[Level]:
    """The classes of the data, as levels that priors may be given."""
    fields = first.model.settings.data.conditions
    return [Level(field.name, field.classes, ()) for field in fields if field.classes is not None]


def _stage(run: Run, start: Start, latent: str, identity: Identity, begun: bool, held: ExitStack) -> Run:
    if begun:
        stage = Run.open(prior_folder(run, latent))
        check_identity(stage, identity.autoencoder, identity.data)
        return stage
    stage = create_prior_run(run, start.model, latent, identity, start.entry())
    hold(stage, held)
    return stage
