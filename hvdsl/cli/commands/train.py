"""`hvdsl train SPEC`: a new run; `hvdsl train --resume --out RUN`: go on with one; `--stage`: priors over its codes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from hvdsl.cli.options.runs import add_machine, machine
from hvdsl.cli.options.shared import add_batch, add_data, add_level, add_set, natural, path, positive_int
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from hvdsl.workflows.train import TrainingSummary, TrainOptions


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a file, FILE@VARIANT, or the name of a shipped spec")
    add_set(parser)
    parser.add_argument("--out", metavar="RUN", type=path, help="the run folder (default: runs/MODEL-TIME)")
    _add_beginning(parser)
    parser.add_argument(
        "--stage",
        metavar="STAGE",
        default="autoencoder",
        help="what to train of a discrete hierarchy: `autoencoder` (the default), a latent, whose prior is trained in "
        "the run --out, or `all`; for priors over codes from a file the default is these priors",
    )
    parser.add_argument("--steps", metavar="N", type=positive_int, help="length of the whole run")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16", "fp16"), help="arithmetic of the network")
    _add_dry_run(parser)
    add_batch(parser)
    add_data(parser)
    add_level(parser)
    parser.add_argument(
        "--graphs",
        choices=("on", "off", "auto"),
        default="auto",
        help="launch whole steps as CUDA graphs where possible (default: auto, which is off until it is measured)",
    )
    parser.add_argument("--workers", metavar="N", type=natural, default=0, help="threads that read ahead (default 0)")
    parser.add_argument(
        "--sink",
        metavar="NAME",
        action="append",
        dest="sinks",
        help="where measurements and pictures go, besides the run folder: tensorboard (the default, if installed), "
        "wandb, none, or a sink of another package; may be repeated",
    )
    add_machine(parser)


def _add_beginning(parser: argparse.ArgumentParser) -> None:
    """Add what training begins from: a run to go on with, or other weights."""
    parser.add_argument(
        "--resume",
        metavar="auto",
        nargs="?",
        const=True,
        default=False,
        help="continue the run in --out, bit for bit; with `auto`, begin it if there is none to continue",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="STEP",
        type=natural,
        help="with --resume: the checkpoint to continue from (default: last)",
    )
    parser.add_argument(
        "--changed",
        metavar="WHAT",
        action="append",
        default=[],
        help="with --resume: continue although the `data` or the `objective` has changed; may be repeated",
    )
    parser.add_argument(
        "--from",
        metavar="RUN|WEIGHTS",
        dest="from_",
        type=path,
        help="begin with the weights of a run, a checkpoint or a .safetensors file, and say which match",
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    dry = parser.add_argument_group("before it begins")
    dry.add_argument(
        "--dry-run", action="store_true", help="say what memory a process needs and what a step costs, and end"
    )
    dry.add_argument("--world-size", metavar="N", type=positive_int, help="with --dry-run: processes (default 1)")
    dry.add_argument("--device-memory", metavar="SIZE", help="with --dry-run: memory of each device, such as 80GiB")
    dry.add_argument(
        "--throughput", metavar="N", type=positive_int, help="with --dry-run: images/s, to estimate the time"
    )


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.workflows.calls import say
    from hvdsl.workflows.train import StoppedError, TrainOptions, run_training

    spec, resume = args.spec, args.resume
    if isinstance(resume, str) and resume != "auto":  # `--resume SPEC --out RUN`
        if spec is not None:
            raise UsageError(f"which spec, `{spec}` or `{resume}`? `--resume` takes nothing, or `auto`")
        spec, resume = resume, True
    options = TrainOptions(
        spec=spec,
        overrides=tuple(args.overrides),
        out=args.out,
        resume=resume,
        checkpoint=args.checkpoint,
        changed=tuple(args.changed),
        from_=args.from_,
        stage=args.stage,
        steps=args.steps,
        precision=args.precision,
        batch=args.batch,
        seed=args.seed,
        data=args.data,
        level=args.level,
        graphs=args.graphs,
        workers=args.workers,
        device=args.device,
        sinks=None if args.sinks is None else tuple(args.sinks),
    )
    if args.dry_run:
        return _dry_run(args, options)
    for flag in ("world_size", "device_memory", "throughput"):
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag.replace('_', '-')} is about a run that is not begun: add --dry-run")
    console = Console()
    try:
        with machine(args):
            result = run_training(options, console)
    except StoppedError as stopped:
        print(f"hvdsl: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    if os.environ.get("RANK", "0") == "0" and (hint := _hint(result, args.stage)):
        say(console, hint)
    return 0 if result.signal is None else 128 + result.signal


def _dry_run(args: argparse.Namespace, options: TrainOptions) -> int:
    from hvdsl.compiler.model import AUTOENCODER
    from hvdsl.workflows.compiling import checked
    from hvdsl.workflows.plan import check_fits, make_plan, parse_size

    if options.spec is None or options.resume or options.stage != AUTOENCODER:
        raise UsageError("--dry-run is about a new run: `hvdsl train SPEC --dry-run`, without --resume and --stage")
    model, processes = checked(options.spec, options.settings([AUTOENCODER])), args.world_size or 1
    plan = make_plan(model, processes)
    print("\n".join(plan.lines(processes, args.throughput)))
    if args.device_memory is not None:
        check_fits(model, plan, processes, parse_size(args.device_memory))
        print(f"fits into {args.device_memory}")
    return 0


def _hint(result: TrainingSummary, stage: str) -> str | None:
    """What to write next."""
    resume = f"hvdsl train --resume --out {shlex.quote(str(result.run.folder))}"
    if result.signal is not None:
        again = resume if stage == "autoencoder" else f"{resume} --stage {stage}"
        step = list(result.steps.values())[-1]
        if result.saved is not None:
            return (
                f"stopped at step {step}, while updates were being skipped; `{again}` goes on from step {result.saved}"
            )
        return f"stopped and saved at step {step}; `{again}` goes on"
    if list(result.steps) == ["autoencoder"] and result.model.priors:
        return f"priors are next: `{resume} --stage all`"
    return None
