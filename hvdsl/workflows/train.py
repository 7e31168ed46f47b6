"""Train a spec, go on with a run, train priors over its codes."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from hvdsl.compiler.model import AUTOENCODER, Model, stages
from hvdsl.compiler.pipeline import optimise
from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar.source import Source
from hvdsl.runtime.data import Splits
from hvdsl.runtime.data.digest import dataset_digest
from hvdsl.runtime.ground.world import process_group, world
from hvdsl.runtime.inference.watch import long_validation, watch
from hvdsl.runtime.latents.noise import noise_scheme
from hvdsl.runtime.training.folder.logs import ENVIRONMENT
from hvdsl.runtime.training.folder.run import RESOLVED, Run, default_folder
from hvdsl.runtime.training.signals import Stopped, stopping_at_once
from hvdsl.runtime.training.sinks import Sink, find_sinks
from hvdsl.runtime.training.step.fast_paths import Precision, default_level
from hvdsl.runtime.training.trainer import Graphs, Trainer, TrainingResult
from hvdsl.workflows.calls import no_global_effect, say
from hvdsl.workflows.compiling import Overrides, checked, spelled
from hvdsl.workflows.conditions import check_fields, names_of_classes
from hvdsl.workflows.plan import recompute_within
from hvdsl.workflows.runs import create_run, device_of, instantiate, read_model, run_data
from hvdsl.workflows.starts import (
    Match,
    Start,
    changed_since,
    consent,
    hold,
    note_start,
    same_structure,
    take_weights,
    unseen,
)
from hvdsl.workflows.train_prior import PriorOptions, begin_codes, train_prior


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What to train and how; see `hvdsl.train` for each."""

    spec: str | Path | Source | None = None
    overrides: tuple[str, ...] = ()  # `NAME=VALUE`
    out: Path | None = None
    resume: bool | Literal["auto"] = False
    checkpoint: int | None = None
    changed: tuple[str, ...] = ()
    from_: Path | None = None
    stage: str = AUTOENCODER
    steps: int | None = None
    precision: Precision | None = None
    batch: int | None = None
    seed: int | None = None
    data: Path | None = None
    level: int | None = None
    graphs: Graphs = "auto"
    workers: int = 0
    device: str = "auto"
    sinks: tuple[str | Sink, ...] | None = None

    @property
    def begins(self) -> bool:
        """Whether a new run folder is made."""
        return self.stage in (AUTOENCODER, "all") and not self.resume

    def settings(self, stages: list[str]) -> tuple[str, ...]:
        """The overrides, with those options that stand for settings: what was trained is read from the run's spec."""
        chosen = {"steps": self.steps, "batch": self.batch, "seed": self.seed, "precision": self.precision}
        sections = ["train" if stage == AUTOENCODER else f"train.{stage}" for stage in stages]
        given = [f"{key}={value}" for key, value in chosen.items() if value is not None]
        return (*self.overrides, *(f"{section}.{setting}" for section in sections for setting in given))

    def of_prior(self, latent: str, device: torch.device) -> PriorOptions:
        """What of them is for the prior of a latent."""
        return PriorOptions(
            latent=latent,
            overrides=self.settings([latent]),
            resume=self.resume is True,
            checkpoint=self.checkpoint,
            data=self.data,
            workers=self.workers,
            device=device,
            sinks=self.sinks,
            graphs=self.graphs,
        )


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """How training ended.

    Attributes:
        run: the run folder that was made or gone on with.
        steps: of each stage that was trained, the steps done over all resumes.
        signal: what stopped it early, if anything did; the run is saved and can be resumed.
        saved: the step of the newest checkpoint, where that is not the last one.
        model: the spec that was trained.
    """

    run: Run
    steps: dict[str, int]
    signal: signal.Signals | None
    model: Model
    saved: int | None = None

    def __repr__(self) -> str:
        done = ", ".join(f"{stage} {step}" for stage, step in self.steps.items())
        stopped = "" if self.signal is None else f", stopped by {self.signal.name}"
        return f"<hvdsl.TrainingSummary {self.run.folder}: steps of {done}{stopped}>"


class StoppedError(HvdslError):
    """A signal ended what comes before training, or between two stages of it.

    Attributes:
        signal: the signal.
    """

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.signal = number


def run_training(options: TrainOptions, console: Console | None = None) -> TrainingSummary:
    """Train the stages that the options name, in order; tell how it goes on `console`.

    Raises:
        UsageError: an option is missing, contradicts another, or names nothing that there is.
        StoppedError: SIGTERM or SIGHUP came before training began, or between stages.
        HvdslError: what is asked for cannot be trained.
        SpecError: with everything that is wrong with the spec.
    """
    try:
        with stopping_at_once():
            return _run(options, console)
    except Stopped as stopped:
        raise StoppedError(f"{stopped} while nothing was being trained: {_way_on(options)}", stopped.signal) from None


def _way_on(options: TrainOptions) -> str:
    """What to write after a start that came to nothing."""
    if options.out is None or not (options.out / ENVIRONMENT).is_file() or Run(options.out).began_nothing:
        return "nothing was lost, and the same command begins anew"
    stage = "" if options.stage == AUTOENCODER else f" --stage {options.stage}"
    return f"`hvdsl train --resume --out {shlex.quote(str(options.out))}{stage}` goes on"


def _run(options: TrainOptions, console: Console | None) -> TrainingSummary:
    if options.spec is None and options.from_ is not None and (options.from_ / RESOLVED).is_file():
        own = Run.open(options.from_).spec()
        options = replace(options, spec=Source(str(options.from_ / RESOLVED), own))
    _check(options)
    find_sinks(options.sinks)
    given = _given(options)
    device = device_of(options.device)
    with process_group(device.type):
        if world().size > 1 and device.type != "cpu":  # this process's accelerator among several
            device = torch.device(f"{device.type}:{os.environ.get('LOCAL_RANK', '0')}")
        if options.resume == "auto":
            options = replace(options, resume=_has_begun(options))
        with ExitStack() as held:
            return _train(options, given, device, console if world().leads else None, held)


def _has_begun(options: TrainOptions) -> bool:
    """Whether there is a run to go on with, as the first process sees it."""
    folder = _out(options)
    begun = (folder / ENVIRONMENT).is_file() and not Run(folder).began_nothing
    return world().texts(str(begun))[0] == str(True)


def _check(options: TrainOptions) -> None:
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    if options.from_ is not None and (options.resume is True or options.stage not in (AUTOENCODER, "all")):
        raise UsageError("--from begins a run: leave out --stage, and --resume or write `--resume auto`")
    if (options.begins or options.resume == "auto") and options.spec is None:
        raise UsageError("which spec? Write `hvdsl train SPEC`, or `hvdsl train --resume --out RUN`")
    if not options.begins and options.out is None:
        raise UsageError(f"--stage {options.stage} needs --out RUN, the folder of its trained autoencoder")
    for value, flag in ((options.checkpoint, f"--checkpoint {options.checkpoint}"), (options.changed, "--changed")):
        if value not in (None, ()) and not options.resume:
            raise UsageError(f"{flag} is about a run to go on with: add --resume")


def _out(options: TrainOptions) -> Path:
    if options.out is None:
        raise AssertionError("only a new run may leave its folder out")
    return options.out


def _given(options: TrainOptions) -> Model | None:
    if options.spec is None:
        return None
    named = stages(checked(options.spec, options.overrides), options.stage)
    return checked(options.spec, options.settings(named))


def _train(
    options: TrainOptions, given: Model | None, device: torch.device, console: Console | None, held: ExitStack
) -> TrainingSummary:
    """Train each stage; `held` has the locks of the folders that are written to."""
    alone = given is not None and given.is_of_codes and not options.resume  # needs no stage before
    begins = options.begins or options.out is None or (alone and not options.out.exists())
    run = None if begins else Run.open(_out(options))
    if run is not None and given is not None and not same_structure(run, given):
        spec = options.spec.name if isinstance(options.spec, Source) else options.spec
        raise HvdslError(f"`{spec}` is not the model of {run.folder}; leave the spec out to go on with the run's own")
    model = given if given is not None else read_model(_opened(run))
    if options.from_ is not None and model.is_of_codes:
        raise UsageError("--from is about a model of images, and this spec has priors over codes alone")
    named, steps = stages(model, options.stage), {}
    stopped: signal.Signals | None = None
    saved: int | None = None
    for stage in named:
        if run is None and model.is_of_codes:
            level = _level(options, None, device)
            run = begin_codes(options.spec, model, options.of_prior(stage, device), options.out, level)
        if run is None or stage == AUTOENCODER:
            run, outcome = _train_autoencoder(options, run, given, device, console, held)
        else:
            outcome = train_prior(run, given, options.of_prior(stage, device), console, held)
        steps[stage], stopped, saved = outcome.step, outcome.signal, outcome.saved
        if stopped is not None:
            break
        done = "done" if len(named) == 1 else f"done with {stage}"
        say(console, f"{done}: {outcome.step} steps, {run.folder}")
    return TrainingSummary(_opened(run), steps, stopped, model, saved)


def _opened(run: Run | None) -> Run:
    if run is None:
        raise AssertionError("without a spec there is a run")
    return run


def _train_autoencoder(
    options: TrainOptions,
    run: Run | None,
    given: Model | None,
    device: torch.device,
    console: Console | None,
    held: ExitStack,
) -> tuple[Run, TrainingResult]:
    if options.out is None and world().size > 1:
        raise UsageError("several processes need --out RUN, so that all of them mean the same folder")
    if run is not None:
        hold(run, held)
    model = given if given is not None else read_model(_opened(run), options.settings([AUTOENCODER]))
    settings, train, level = model.settings, _train_section(model), _level(options, run, device)
    splits = run_data(run, settings.data, options.data)
    start = _start(options, run, model, splits, device, level)
    fields = check_fields(model, splits)
    notes = [] if run is None else consent(run, changed_since(run, start), options.changed)
    module = instantiate(model, train.seed, device, level)
    match = take_weights(module, options.from_) if options.from_ is not None and run is None else None
    trainer = Trainer(
        module,
        settings,
        splits.train,
        run=run,
        console=console,
        workers=options.workers,
        sinks=options.sinks,
        graphs=options.graphs,
        level=level,
    )
    recompute_within(trainer, optimise(model, level).graph, console)
    if run is None:  # made last: what cannot be trained leaves no folder behind
        run = _begin(trainer, options, start, splits, held)
        say(console, f"data: {splits.summary}")
        if fields:
            say(console, f"fields: {fields}")
        if match is not None:
            _begin_from(trainer, match, console)
        say(console, f"training {settings.model} on {device}: {len(splits.train):,} images, run folder {run.folder}")
    else:
        _go_on(trainer, options, start, run, notes, console)
    if long := long_validation(settings.evaluate.samples, len(splits.validation), len(splits.train)):
        say(console, long)
    watch(trainer, splits.validation)
    return run, trainer.fit()


def _train_section(model: Model) -> Train:
    if model.settings.train is None:
        name = model.settings.model
        raise HvdslError(f"`{name}` has no `train` section: add one, or give its values with `--set train.…`")
    return model.settings.train


def _start(
    options: TrainOptions, run: Run | None, model: Model, splits: Splits, device: torch.device, level: int
) -> Start:
    """What is asked for, the same in every process."""
    start = Start(
        model=model,
        train=_train_section(model),
        data=options.data if options.data is not None or run is None else run.data,
        digest=dataset_digest(splits.train),
        device=device,
        level=level,
        overrides=options.settings([AUTOENCODER]),
        weights=options.from_,
    )
    start.check_ranks()
    return start


def _level(options: TrainOptions, run: Run | None, device: torch.device) -> int:
    """The optimisation level; a run goes on with its own."""
    if run is None:
        return default_level(device) if options.level is None else options.level
    if options.level not in (None, run.level):
        raise UsageError(f"{run.folder} was begun with -O{run.level}, and goes on with it: leave out -O{options.level}")
    return run.level


def _begin(trainer: Trainer, options: TrainOptions, start: Start, splits: Splits, held: ExitStack) -> Run:
    """Make the run folder of what is about to be trained."""
    if options.spec is None:
        raise AssertionError("a new run has a spec")
    folder = options.out or default_folder(start.model.settings.model)
    entry = replace(start, noise_scheme=noise_scheme(trainer.model)).entry()
    classes = names_of_classes(splits)
    run = trainer.run = create_run(folder, options.spec, start.model, options.data, start.level, entry, classes)
    hold(run, held)
    return run


def _begin_from(trainer: Trainer, match: Match, console: Console | None) -> None:
    """Say which weights were taken; with all of them, nothing is derived from a first batch."""
    for line in match.lines():
        say(console, line)
    if match.complete:
        trainer.optimization.begin_from_weights()


def _go_on(
    trainer: Trainer, options: TrainOptions, start: Start, run: Run, notes: Sequence[str], console: Console | None
) -> None:
    """Take up a run where it was left, and say so."""
    late = unseen(run)
    step = trainer.resume(options.checkpoint)
    note_start(run, replace(start, noise_scheme=noise_scheme(trainer.model)), step)
    for line in (f"going on with {run.folder} at step {step}", *notes, *([late] if late else [])):
        say(console, line)


def train(
    spec: str | Path | Source | None = None,
    *,
    overrides: Overrides | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool | Literal["auto"] = False,
    checkpoint: int | None = None,
    changed: Sequence[str] = (),
    from_: str | os.PathLike[str] | None = None,
    stage: str = AUTOENCODER,
    steps: int | None = None,
    precision: Precision | None = None,
    batch: int | None = None,
    seed: int | None = None,
    data: str | os.PathLike[str] | None = None,
    level: int | None = None,
    graphs: Graphs = "auto",
    workers: int = 0,
    device: str = "auto",
    threads: int | None = None,
    sinks: Sequence[str | Sink] | None = None,
    console: Console | None = None,
) -> TrainingSummary:
    """Train a spec in a new run folder, or go on with a run, as `hvdsl train` does.

    While it works, Ctrl-C, SIGTERM and SIGHUP finish the step, save and return; SIGUSR1 saves and goes on; a second
    Ctrl-C raises KeyboardInterrupt.
    Afterwards the process is as it was: random state, threads, signal handlers, warning filters.

    Examples:
        >>> result = hvdsl.train("vdvae_digits", steps=200, out="runs/digits")
        >>> trained = hvdsl.load(result.run)

    Args:
        spec: a file, `FILE@VARIANT`, the name of a shipped spec, or a `Source`; not needed to go on with a run.
        overrides: `let`s and settings, as `{"width": 64, "train.clip": 10}`.
        out: the run folder (default: `runs/MODEL-TIME`).
        resume: go on with the run in `out`, bit for bit; `"auto"` begins it where there is none to go on with.
        checkpoint: the step of the checkpoint to go on from; the newest, if it is left out.
        changed: what the run may go on with changed: `data`, `objective`.
        from_: a run, a checkpoint or a .safetensors file whose weights to begin with; without a spec, the run's.
        stage: of a discrete hierarchy `autoencoder`, a latent whose prior to train in `out`, or `all`.
        steps: length of the whole run.
        precision: arithmetic of the network.
        batch: images per step over all devices.
        seed: of every random draw.
        data: where the spec's data is read from.
        level: the optimisation level, 0, 1 or 2 (default: by the kind of device, 1).
        graphs: `on` launches whole steps as CUDA graphs where that can be, and says why where it cannot; `auto` is
            `off` until that has been measured.
        workers: threads that read ahead.
        device: `cpu`, `cuda`, `cuda:1`, …; `auto` is an accelerator if there is one.
        threads: of one operation on the CPU, while it works.
        sinks: what hears of measurements and pictures beside the run folder: `tensorboard`, `wandb`, the name of
            another package's entry point, or a `hvdsl.Sink` of your own, whose exceptions end the training
            (default: `tensorboard`, if it is installed).
        console: where to show progress; nothing is shown without one.

    Raises:
        hvdsl.Error: an argument contradicts another, the data do not fit, the run exists, or training stalled.
    """
    options = TrainOptions(
        spec=spec,
        overrides=spelled(overrides),
        out=None if out is None else Path(out),
        resume=resume,
        checkpoint=checkpoint,
        changed=tuple(changed),
        from_=None if from_ is None else Path(from_),
        stage=stage,
        steps=steps,
        precision=precision,
        batch=batch,
        seed=seed,
        data=None if data is None else Path(data),
        level=level,
        graphs=graphs,
        workers=workers,
        device=device,
        sinks=None if sinks is None else tuple(sinks),
    )
    remedy = (
        "take a smaller `batch` (or `train.accumulate`: the same batch in parts), `bf16`, or "
        "`train.checkpointing = group` among the `overrides`, which recomputes activations"
    )
    with no_global_effect(threads, remedy):
        return run_training(options, console)
