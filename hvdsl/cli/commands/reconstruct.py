"""`hvdsl reconstruct RUN`: images as the first latent groups know them, at several depths of the hierarchy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.machine import add_machine, machine
from hvdsl.cli.options.runs import add_run, add_split, opened
from hvdsl.cli.options.shared import add_data, add_output, add_set, positive, temperature


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument("-n", "--number", metavar="N", type=positive, default=8, help="how many images (default 8)")
    parser.add_argument("--depths", metavar="D", type=positive, default=5, help="how many depths (default 5)")
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=temperature,
        help="of the groups that are not kept (default 0.1)",
    )
    add_split(parser, "test")
    add_output(parser, "the PNG to write (default: RUN/pictures/reconstructions.png)")
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.output.pictures import place
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.generate import depths
    from hvdsl.runtime.inference.pictures import labelled_rows, save_png
    from hvdsl.runtime.protocol import as_vae
    from hvdsl.workflows.runs import spread, used_images
    from hvdsl.workflows.trained import Trained

    with machine(args):
        trained = Trained(opened(args))
        output: Path = place(trained.run, args.output, "reconstructions.png")
        chosen = used_images(trained.run, trained.spec.model.settings.data, args.data, args.split)
        images = spread(chosen, args.number)
        groups = len(as_vae(trained.model).LATENTS)
        keep = depths(groups, args.depths)
        rows = [
            trained.reconstruct(images, keep=kept, temperature=args.temperature, batch=len(images), seed=args.seed or 0)
            for kept in keep
        ]
    labels = ["images", *(f"{kept} of {groups} groups" for kept in keep)]
    save_png(labelled_rows([images, *rows], labels, pixel_bits(trained.spec.model.settings.data)), output)
    print(f"wrote {output}: {len(images)} of {chosen.name}", file=sys.stderr)
    return 0
