"""`hvdsl decode RUN latents.npz -o images/`: latents, or codes, as images."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.images import add_image_output, image_output
from hvdsl.cli.options.runs import add_checkpoint, add_given, add_machine, add_run_folder, machine, opened
from hvdsl.cli.options.shared import add_batch, path, temperature


def configure(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    parser.add_argument(
        "latents",
        metavar="LATENTS",
        type=path,
        help="a file or folder that `hvdsl encode` or `hvdsl codes` wrote; groups missing from it are drawn",
    )
    add_checkpoint(parser)
    add_image_output(parser, "what to write", required=True)
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=temperature,
        help="temperature of the groups that are drawn (default: the spec's)",
    )
    add_given(parser, what="conditions of the images, instead of the encoded ones")
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.runtime.inference.image_files import write_images
    from hvdsl.workflows.latent_files import read_given, read_latents
    from hvdsl.workflows.trained import Trained

    with machine(args):
        model = opened(args)
        output = image_output(args.output, model, "decoded.png")
        latents = read_latents(args.latents, model)
        images = Trained(model).decode(
            latents,
            temperature=args.temperature,
            batch=args.batch or 64,
            seed=args.seed or 0,
            given={**read_given(args.latents, model), **dict(args.given)},
        )
    written = write_images(output, images, model.spec.model.settings.data)
    print(f"wrote {output.path}: {written}", file=sys.stderr)
    return 0
