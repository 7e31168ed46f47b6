"""`hvdsl encode RUN --data images/ -o latents.npz`: what the posterior of each latent group says of images."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.runs import add_given, add_machine, add_run, add_split, machine, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_set


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    add_given(parser, what="conditions of the images, instead of their own")
    add_split(parser, "test")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="an .npz file, or a folder of .npy files (`latents/`)"
    )
    parser.add_argument(
        "--groups", metavar="WHICH", help="places (3 or 0:10), names or resolutions (8x8), by commas (default: all)"
    )
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.workflows.latent_files import check_latents_output, encode_images
    from hvdsl.workflows.runs import used_images

    check_latents_output(args.output)
    with machine(args):
        model = opened(args)
        images = used_images(model.run, model.spec.model.settings.data, args.data, args.split)
        groups = encode_images(
            model,
            images,
            args.output,
            groups=args.groups,
            batch=args.batch or 64,
            seed=args.seed or 0,
            console=Console(stderr=True),
            given=dict(args.given),
        )
    count = f"{len(groups)} latent group{'' if len(groups) == 1 else 's'}"
    print(f"wrote {args.output}: {count} of {images.name}", file=sys.stderr)
    return 0
