"""`hvdsl sample RUN -n 64 --temperature 0.8 -o grid.png`: images, or codes, from the prior."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.images import add_code_options, add_image_output, image_output, temperatures
from hvdsl.cli.options.runs import add_given, add_machine, add_run, machine, opened
from hvdsl.cli.options.shared import add_batch, add_set, natural, positive_int


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument(
        "-n", "--number", metavar="N", type=positive_int, default=36, dest="n", help="how many images (default 36)"
    )
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=temperatures,
        action="extend",
        default=[],
        help="factor on every prior's scale, or divisor of the logits of codes (default: the spec's); of groups or "
        'levels: Z=T, or "8: 0.7, else: 0.9" (a resolution, place or name)',
    )
    parser.add_argument(
        "--recalibrate",
        metavar="PASSES",
        type=natural,
        help="first measure batch-norm statistics on this many passes of prior samples (default: the spec's; 0: none)",
    )
    parser.add_argument(
        "--mean",
        action="store_true",
        help="the likelihood's mean, not a draw from it: whole pixel values, grey where pixels are 0 or 1",
    )
    add_given(parser)
    parser.add_argument(
        "--guidance",
        metavar="W",
        type=float,
        help="classifier-free guidance, if training dropped conditions (`drop`): 1 is plain, 0 without conditions",
    )
    add_code_options(parser)
    add_image_output(parser, "what to write (default: RUN/pictures/samples.png; of codes alone .npz or .safetensors)")
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.workflows.sample import SampleOptions
    from hvdsl.workflows.sample_files import write_sampled_codes, write_samples

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
        given=tuple(args.given),
        guidance=args.guidance,
    )
    with machine(args):
        model = opened(args)
        if model.spec.model.is_of_codes and model.run is not None:
            path = model.run.pictures / "samples.npz" if args.output is None else Path(args.output)
            written = write_sampled_codes(model, options, path, Console(stderr=True))
        else:
            output = image_output(args.output, model, "samples.png")
            path, written = output.path, write_samples(model, options, output, Console(stderr=True))
    print(f"wrote {path}: {written}", file=sys.stderr)
    return 0
