"""`hvdsl train SPEC`: a new run; `hvdsl train --resume --out RUN`: go on with one; `--stage`: priors over its codes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options import add_batch, add_data, add_level, add_machine, add_set, checked, natural, positive
from hvdsl.errors import HvdslError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from hvdsl.compiler.model import Model
    from hvdsl.runtime.training.run import Run
    from hvdsl.runtime.training.trainer import TrainingResult


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a file, FILE@VARIANT, or the name of a shipped spec")
    add_set(parser)
    parser.add_argument("--out", metavar="RUN", type=Path, help="the run folder (default: runs/MODEL-TIME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, bit for bit")
    parser.add_argument(
        "--stage",
        metavar="STAGE",
        default="autoencoder",
        help="of a discrete hierarchy: `autoencoder` (the default), a latent whose prior to train in the run --out, "
        "or `all`",
    )
    parser.add_argument("--steps", metavar="N", type=positive, help="length of the whole run")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16", "fp16"), help="arithmetic of the network")
    add_batch(parser)
    add_data(parser)
    add_level(parser)
    parser.add_argument("--workers", metavar="N", type=natural, default=0, help="threads that read ahead (default 0)")
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    begins = args.stage in ("autoencoder", "all") and not args.resume  # a new run folder
    if args.resume and args.out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    if args.resume and args.level is not None:
        raise UsageError("a run goes on at the optimisation level it began with: leave out -O")
    if begins and args.spec is None:
        raise UsageError("which spec? Write `hvdsl train SPEC`, or `hvdsl train --resume --out RUN`")
    if not begins and args.out is None:
        raise UsageError(f"--stage {args.stage} needs --out RUN, the folder of its trained autoencoder")
    given = None if args.spec is None else _checked(args)

    from hvdsl.cli.runs import use_machine
    from hvdsl.runtime.ground.world import process_group

    device = use_machine(args)
    with process_group(device.type):
        return _train(args, given, begins, str(device) if "WORLD_SIZE" not in os.environ else _own(device.type))


def _checked(args: argparse.Namespace) -> Model:
    from hvdsl.compiler.stages import stages

    return checked(args.spec, _overrides(args, stages(checked(args.spec, args.overrides), args.stage)))


def _overrides(args: argparse.Namespace, stages: list[str]) -> list[str]:
    """Options that stand for settings, so that what was trained can be read from the run's own spec."""
    chosen = {"steps": args.steps, "batch": args.batch, "seed": args.seed, "precision": args.precision}
    sections = ["train" if stage == "autoencoder" else f"train.{stage}" for stage in stages]
    given = [f"{key}={value}" for key, value in chosen.items() if value is not None]
    return [*args.overrides, *(f"{section}.{setting}" for section in sections for setting in given)]


def _own(device: str) -> str:
    """Return this process's accelerator among several."""
    return device if device == "cpu" else f"{device}:{os.environ.get('LOCAL_RANK', '0')}"


def _train(args: argparse.Namespace, given: Model | None, begins: bool, device_name: str) -> int:
    import torch
    from rich.console import Console

    from hvdsl.cli.runs import read_model
    from hvdsl.cli.train_prior import train_prior
    from hvdsl.compiler.stages import stages
    from hvdsl.runtime.training.run import Run

    device, console = torch.device(device_name), Console()
    run = None if begins else Run.open(args.out)
    model = given if given is not None else read_model(Run.open(args.out))
    if run is not None and given is not None:
        _same_model(run, given, args.spec)
    named = stages(model, args.stage)
    for stage in named:
        if run is None or stage == "autoencoder":
            own = given if run is None else read_model(run, _overrides(args, [stage]))
            run, outcome = _train_autoencoder(args, run, own or model, device, console)
        else:
            outcome = train_prior(args, run, given, _overrides(args, [stage]), stage, device, console)
        if outcome.signal is not None:
            again = f"hvdsl train --resume --out {run.folder}"
            again += "" if args.stage == "autoencoder" else f" --stage {args.stage}"
            console.print(f"stopped and saved at step {outcome.step}; `{again}` goes on")
            return 128 + outcome.signal
        done = "done" if len(named) == 1 else f"done with {stage}"
        _say(console, f"{done}: {outcome.step} steps, {run.folder}")
    if named == ["autoencoder"] and model.priors and run is not None:
        _say(console, f"priors are next: `hvdsl train --resume --out {run.folder} --stage all`")
    return 0


def _train_autoencoder(
    args: argparse.Namespace, run: Run | None, model: Model, device: torch.device, console: Console
) -> tuple[Run, TrainingResult]:
    from hvdsl.cli.runs import create_run, data_path, instantiate, level_of
    from hvdsl.runtime.data import open_data
    from hvdsl.runtime.ground.world import world
    from hvdsl.runtime.inference.watch import watch
    from hvdsl.runtime.training.run import default_folder
    from hvdsl.runtime.training.trainer import Trainer

    if args.out is None and world().size > 1:
        raise UsageError("several processes need --out RUN, so that all of them mean the same folder")
    settings = model.settings
    if settings.train is None:
        raise HvdslError(f"`{settings.model}` has no `train` section: add one, or give its values with `--set train.…`")
    level = level_of(run) if run is not None else 1 if args.level is None else args.level
    splits = open_data(settings.data, data_path(run, args.data) if run is not None else args.data)
    module = instantiate(model, settings.train.seed, device, level)
    trainer = Trainer(module, settings, splits.train, run=run, console=console, workers=args.workers)
    if run is None:  # made last: what cannot be trained leaves no folder behind
        folder = args.out or default_folder(settings.model)
        run = trainer.run = create_run(folder, args.spec, model, args.data, level)
    watch(trainer, splits.validation)
    if args.resume:
        _say(console, f"going on with {run.folder} at step {trainer.resume()}")
    else:
        images = f"{len(splits.train):,} images"
        _say(console, f"training {settings.model} on {device}: {images}, run folder {run.folder}")
    return run, trainer.fit()


def _say(console: Console, line: str) -> None:
    from hvdsl.runtime.ground.world import world

    if world().leads:
        console.print(line, highlight=False, soft_wrap=True)


def _same_model(run: Run, given: Model, spec: str) -> None:
    """Refuse to go on with a run under a spec that describes another model, data or objective."""
    from hvdsl.cli.runs import read_model
    from hvdsl.compiler.stages import structure

    def essence(model: Model) -> tuple[object, ...]:
        return structure(model), model.settings.data, model.settings.objective

    if essence(given) != essence(read_model(run)):
        raise HvdslError(f"`{spec}` is not the model of {run.folder}; leave the spec out to go on with the run's own")
