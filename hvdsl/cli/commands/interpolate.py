"""`hvdsl interpolate RUN a.png b.png --groups 0:4`: the way from one image to another through its latents."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.images import add_image_output, image_output
from hvdsl.cli.options.runs import add_given, add_machine, add_run, machine, opened
from hvdsl.cli.options.shared import add_batch, add_set, path, positive_int


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("first", metavar="A", type=path, help="an image file")
    parser.add_argument(
        "second", metavar="B", type=path, nargs="?", help="another; without it, the groups go to draws of their priors"
    )
    add_set(parser)
    parser.add_argument(
        "--groups",
        metavar="WHICH",
        help="the groups that go from A to B, while the others stay A's: places (3 or 0:10), names or resolutions "
        "(8x8), separated by commas (default: all)",
    )
    parser.add_argument("--steps", metavar="N", type=positive_int, default=8, help="how many images (default 8)")
    parser.add_argument(
        "--curve",
        choices=("spherical", "linear"),
        default="spherical",
        help="on a great circle through each group's values (default), or a straight line",
    )
    add_given(parser, what="conditions of the images (A's and B's), instead of their own")
    add_image_output(parser, "what to write (default: RUN/pictures/interpolation.png)")
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.runtime.inference.image_files import write_images
    from hvdsl.workflows.trained import Trained

    with machine(args):
        model = opened(args)
        output = image_output(args.output, model, "interpolation.png")
        images = Trained(model).interpolate(
            args.first,
            args.second,
            groups=args.groups,
            steps=args.steps,
            curve=args.curve,
            batch=args.batch or 64,
            seed=args.seed or 0,
            given=dict(args.given),
        )
    written = write_images(output, images, model.spec.model.settings.data, columns=len(images))
    print(f"wrote {output.path}: {written}", file=sys.stderr)
    return 0
