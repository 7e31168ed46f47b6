"""`hvdsl sample RUN -n 64 --temperature 0.8 -o grid.png`: images from the prior."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options import add_batch, add_machine, add_output, add_set, natural, positive, temperature
from hvdsl.cli.run_options import add_run


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument("-n", "--number", metavar="N", type=positive, default=36, help="how many images (default 36)")
    parser.add_argument(
        "--temperature", metavar="T", type=temperature, help="factor on every prior's scale (default: the spec's)"
    )
    parser.add_argument(
        "--recalibrate",
        metavar="PASSES",
        type=natural,
        help="first measure batch-norm statistics on so many passes of prior samples (default: the spec's; 0: do not)",
    )
    parser.add_argument("--mean", action="store_true", help="show the likelihood's mean, not a draw from it")
    add_output(parser, "the PNG to write (default: RUN/pictures/samples.png)")
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.runs import open_trained
    from hvdsl.runtime.inference import pixel_bits
    from hvdsl.runtime.pictures import grid, save_png
    from hvdsl.runtime.recalibrate import recalibrate_batch_norm
    from hvdsl.runtime.sample import sample

    trained = open_trained(args, lambda settings: settings.sample.use_ema)
    settings = trained.model.settings
    temperature = settings.sample.temperature if args.temperature is None else args.temperature
    passes = settings.sample.recalibrate_batch_norm if args.recalibrate is None else args.recalibrate
    if passes:
        recalibrate_batch_norm(trained.module, passes, temperature=temperature, seed=args.seed or 0)
    images = sample(
        trained.module,
        settings.data,
        args.number,
        temperature=temperature,
        seed=args.seed or 0,
        batch=args.batch or 64,
        decode="mean" if args.mean else "sample",
    )
    output: Path = args.output or trained.run.pictures / "samples.png"
    save_png(grid(images, pixel_bits(settings.data)), output)
    print(f"wrote {output}", file=sys.stderr)
    return 0
