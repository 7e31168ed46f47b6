"""`hvdsl sample RUN -n 64 --temperature 0.8 -o grid.png`: images from the prior."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.codes import add_code_options, leveled
from hvdsl.cli.options.machine import add_machine, machine
from hvdsl.cli.options.runs import add_run, opened
from hvdsl.cli.options.shared import add_batch, add_output, add_set, natural, positive, temperature


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument(
        "-n", "--number", metavar="N", type=positive, default=36, dest="n", help="how many images (default 36)"
    )
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
    from rich.console import Console

    from hvdsl.cli.output.pictures import place
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.pictures import grid, save_png
    from hvdsl.workflows.sample import SampleOptions, draw

    options = SampleOptions(
        n=args.n,
        temperature=tuple(args.temperature),
        recalibrate=args.recalibrate,
        mean=args.mean,
        batch=args.batch or 64,
        seed=args.seed or 0,
        top_k=tuple(args.top_k),
        top_p=tuple(args.top_p),
        label=args.label,
        fix=tuple(args.fix),
        keep=args.keep,
        mask=args.mask,
        schedule=tuple(args.schedule),
    )
    with machine(args):
        model = opened(args)
        output: Path = place(model.run, args.output, "samples.png")
        images = draw(model, options, Console(stderr=True))
    save_png(grid(images, pixel_bits(model.spec.model.settings.data)), output)
    print(f"wrote {output}", file=sys.stderr)
    return 0
