"""`hvdsl sample RUN -n 64 --temperature 0.8 -o grid.png`: images from the prior."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.code_options import add_code_options, leveled, per_level
from hvdsl.cli.options import add_batch, add_machine, add_output, add_set, natural, positive, temperature
from hvdsl.cli.run_options import add_run
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from hvdsl.compiler.model import Model
    from hvdsl.runtime.training.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument("-n", "--number", metavar="N", type=positive, default=36, help="how many images (default 36)")
    parser.add_argument(
        "--temperature",
        metavar="[LEVEL=]T",
        type=leveled(temperature),
        action="append",
        default=[],
        help="factor on every prior's scale, or divisor of the logits of codes (default: the spec's)",
    )
    parser.add_argument(
        "--recalibrate",
        metavar="PASSES",
        type=natural,
        help="first measure batch-norm statistics on so many passes of prior samples (default: the spec's; 0: do not)",
    )
    parser.add_argument("--mean", action="store_true", help="show the likelihood's mean, not a draw from it")
    add_code_options(parser)
    add_output(parser, "the PNG to write (default: RUN/pictures/samples.png)")
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.runs import read_model
    from hvdsl.compiler.stages import is_drawn_from_codes
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.pictures import grid, save_png
    from hvdsl.runtime.training.run import Run

    run = Run.open(args.run_folder)
    model = read_model(run, args.overrides)
    images = _from_codes(args, run) if is_drawn_from_codes(model) else _from_prior(args, model)
    output: Path = args.output or run.pictures / "samples.png"
    save_png(grid(images, pixel_bits(model.settings.data)), output)
    print(f"wrote {output}", file=sys.stderr)
    return 0


def _from_codes(args: argparse.Namespace, run: Run) -> Tensor:
    from hvdsl.cli.runs import use_machine
    from hvdsl.cli.sample_codes import draw_images
    from hvdsl.cli.stages import open_autoencoder

    if args.mean:
        raise UsageError("--mean: the pictures of codes are the likelihood's mean already; leave it out")
    if args.recalibrate:
        raise UsageError("--recalibrate: batch-norm statistics are measured on samples of continuous latents only")
    return draw_images(args, open_autoencoder(run, use_machine(args), step=args.step, overrides=args.overrides))


def _from_prior(args: argparse.Namespace, model: Model) -> Tensor:
    from hvdsl.cli.runs import open_trained
    from hvdsl.runtime.inference.recalibrate import recalibrate_batch_norm
    from hvdsl.runtime.inference.sample import sample

    asked = [name for name in ("top_k", "top_p", "label", "fix", "keep", "mask", "schedule") if getattr(args, name)]
    if asked:
        raise UsageError(
            f"--{asked[0].replace('_', '-')} is for models of codes; this one is drawn from its latents' own priors"
        )
    trained = open_trained(args, lambda settings: settings.sample.use_ema)
    settings = model.settings
    everywhere = per_level(args.temperature, [""], "--temperature").get("")
    factor = settings.sample.temperature if everywhere is None else everywhere
    passes = settings.sample.recalibrate_batch_norm if args.recalibrate is None else args.recalibrate
    if passes:
        recalibrate_batch_norm(trained.module, passes, temperature=factor, seed=args.seed or 0)
    return sample(
        trained.module,
        settings.data,
        args.number,
        temperature=factor,
        seed=args.seed or 0,
        batch=args.batch or 64,
        decode="mean" if args.mean else "sample",
    )
