"""`hvdsl train SPEC`: a new run; `hvdsl train --resume --out RUN`: go on with one; `--stage`: priors over its codes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options import add_machine, add_set, checked, positive
from hvdsl.errors import HvdslError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from hvdsl.compiler.model import Model
    from hvdsl.runtime.run import Run
    from hvdsl.runtime.trainer import Outcome


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
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="arithmetic of the network")
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    begins = args.stage in ("autoencoder", "all") and not args.resume  # a new run folder
    if args.resume and args.out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    if begins and args.spec is None:
        raise UsageError("which spec? Write `hvdsl train SPEC`, or `hvdsl train --resume --out RUN`")
    if not begins and args.out is None:
        raise UsageError(f"--stage {args.stage} needs --out RUN, the folder of its trained autoencoder")
    given = None if args.spec is None else _checked(args)

    from hvdsl.cli.runs import use_machine
    from hvdsl.runtime.distributed import process_group

    device = use_machine(args)
    with process_group(device.type):
        return _train(args, given, begins, device.type if "WORLD_SIZE" not in os.environ else _own(device.type))


def _checked(args: argparse.Namespace) -> Model:
    model = checked(args.spec, args.overrides)
    return checked(args.spec, _overrides(args, _stages(model, args.stage)))


def _stages(model: Model, wanted: str) -> list[str]:
    from hvdsl.compiler.stages import stages

    return stages(model, wanted)


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
    from hvdsl.runtime.run import Run

    device, console = torch.device(device_name), Console()
    if begins and given is not None:
        run = _create(args, given)
    else:
        run = Run.open(args.out)
        _same_model(run, given, args.spec)
    whole = given or read_model(run)
    named = _stages(whole, args.stage)
    for stage in named:
        overrides = _overrides(args, [stage])
        if stage == "autoencoder":
            model = read_model(run, overrides) if args.resume or given is None else given
            outcome = _train_autoencoder(args, run, model, device, console)
        else:
            outcome = train_prior(args, run, given, overrides, stage, device, console)
        if outcome.signal is not None:
            again = f"hvdsl train --resume --out {run.folder}"
            again += "" if args.stage == "autoencoder" else f" --stage {args.stage}"
            console.print(f"stopped and saved at step {outcome.step}; `{again}` goes on")
            return 128 + outcome.signal
        done = "done" if len(named) == 1 else f"done with {stage}"
        _say(console, f"{done}: {outcome.step} steps, {run.folder}")
    if named == ["autoencoder"] and whole.priors:
        _say(console, f"priors are next: `hvdsl train --resume --out {run.folder} --stage all`")
    return 0


def _create(args: argparse.Namespace, model: Model) -> Run:
    from hvdsl.cli.runs import create_run
    from hvdsl.runtime.distributed import world
    from hvdsl.runtime.run import default_folder

    if args.out is None and world().size > 1:
        raise UsageError("several processes need --out RUN, so that all of them mean the same folder")
    return create_run(args.out or default_folder(model.settings.model), args.spec, model, args.data)


def _train_autoencoder(
    args: argparse.Namespace, run: Run, model: Model, device: torch.device, console: Console
) -> Outcome:
    from hvdsl.cli.runs import data_path, instantiate
    from hvdsl.runtime.data import open_data
    from hvdsl.runtime.trainer import Trainer
    from hvdsl.runtime.watch import watch

    settings = model.settings
    if settings.train is None:
        raise HvdslError(f"`{settings.model}` has no `train` section: add one, or give its values with `--set train.…`")
    splits = open_data(settings.data, data_path(run, args.data))
    module = instantiate(model, settings.train.seed, device)
    trainer = Trainer(module, settings, splits.train, run=run, console=console, workers=args.workers)
    watch(trainer, splits.validation)
    if args.resume:
        _say(console, f"going on with {run.folder} at step {trainer.resume()}")
    else:
        images = f"{len(splits.train):,} images"
        _say(console, f"training {settings.model} on {device}: {images}, run folder {run.folder}")
    return trainer.fit()


def _say(console: Console, line: str) -> None:
    from hvdsl.runtime.distributed import world

    if world().leads:
        console.print(line, highlight=False, soft_wrap=True)


def _same_model(run: Run, given: Model | None, spec: str) -> None:
    """Refuse to go on with a run under a spec that says something else."""
    from hvdsl.cli.runs import read_model
    from hvdsl.compiler.stages import structure

    if given is not None and structure(given) != structure(read_model(run)):
        raise HvdslError(f"`{spec}` is not the model of {run.folder}; leave the spec out to go on with the run's own")
