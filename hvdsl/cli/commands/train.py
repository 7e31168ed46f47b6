"""`hvdsl train SPEC`: a new run; `hvdsl train --resume --out RUN`: go on with one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options import add_batch, add_data, add_level, add_machine, add_set, checked, natural, positive
from hvdsl.errors import HvdslError, UsageError

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model
    from hvdsl.runtime.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a file, FILE@VARIANT, or the name of a shipped spec")
    add_set(parser)
    parser.add_argument("--out", metavar="RUN", type=Path, help="the run folder (default: runs/MODEL-TIME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, bit for bit")
    parser.add_argument("--steps", metavar="N", type=positive, help="length of the whole run")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="arithmetic of the network")
    add_batch(parser)
    add_data(parser)
    add_level(parser)
    parser.add_argument("--workers", metavar="N", type=natural, default=0, help="threads that read ahead (default 0)")
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    if args.resume and args.out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    if args.resume and args.level is not None:
        raise UsageError("a run goes on at the optimisation level it began with: leave out -O")
    if not args.resume and args.spec is None:
        raise UsageError("which spec? Write `hvdsl train SPEC`, or `hvdsl train --resume --out RUN`")
    # Options that stand for settings: what was trained can then be read from the run's own spec.
    chosen = {"steps": args.steps, "batch": args.batch, "seed": args.seed, "precision": args.precision}
    overrides = [*args.overrides, *(f"train.{key}={value}" for key, value in chosen.items() if value is not None)]
    model = None if args.resume else checked(args.spec, overrides)

    from hvdsl.cli.runs import use_machine
    from hvdsl.runtime.distributed import process_group

    device = use_machine(args)
    with process_group(device.type):
        return _train(args, model, overrides, str(device) if "WORLD_SIZE" not in os.environ else _own(device.type))


def _own(device: str) -> str:
    """Return this process's accelerator among several."""
    return device if device == "cpu" else f"{device}:{os.environ.get('LOCAL_RANK', '0')}"


def _train(args: argparse.Namespace, model: Model | None, overrides: list[str], device: str) -> int:
    import torch
    from rich.console import Console

    from hvdsl.cli.runs import create_run, data_path, instantiate, level_of, read_model
    from hvdsl.runtime.data import open_data
    from hvdsl.runtime.distributed import world
    from hvdsl.runtime.run import Run, default_folder
    from hvdsl.runtime.trainer import Trainer
    from hvdsl.runtime.watch import watch

    run = None
    if model is None:
        run = Run.open(args.out)
        model = read_model(run, overrides)
        if args.spec is not None:
            _same_model(run, model, checked(args.spec, overrides), args.spec)
    elif args.out is None and world().size > 1:
        raise UsageError("several processes need --out RUN, so that all of them mean the same folder")
    settings = model.settings
    if settings.train is None:
        raise HvdslError(f"`{settings.model}` has no `train` section: add one, or give its values with `--set train.…`")
    console = Console()
    level = level_of(run) if run is not None else 1 if args.level is None else args.level
    splits = open_data(settings.data, data_path(run, args.data) if run is not None else args.data)
    module = instantiate(model, settings.train.seed, torch.device(device), level)
    trainer = Trainer(module, settings, splits.train, run=run, console=console, workers=args.workers)
    if run is None:  # made last: what cannot be trained leaves no folder behind
        folder = args.out or default_folder(settings.model)
        run = trainer.run = create_run(folder, args.spec, model, args.data, level)
    watch(trainer, splits.validation)
    if args.resume:
        step = trainer.resume()
        console.print(f"going on with {run.folder} at step {step}", highlight=False)
    elif trainer.world.leads:
        console.print(
            f"training {settings.model} on {device}: {len(splits.train):,} images, run folder {run.folder}",
            highlight=False,
        )
    outcome = trainer.fit()
    if outcome.signal is not None:
        console.print(f"stopped and saved at step {outcome.step}; `hvdsl train --resume --out {run.folder}` goes on")
        return 128 + outcome.signal
    if trainer.world.leads:
        console.print(f"done: {outcome.step} steps, {run.folder}", highlight=False)
    return 0


def _same_model(run: Run, own: Model, given: Model, spec: str) -> None:
    """Refuse to go on with a run under a spec that describes another model, data or objective."""
    from hvdsl.draw.export import graph_json

    def essence(model: Model) -> tuple[object, ...]:
        return graph_json(model), model.likelihood, model.settings.data, model.settings.objective

    if essence(own) != essence(given):
        raise HvdslError(f"`{spec}` is not the model of {run.folder}; leave the spec out to go on with the run's own")
