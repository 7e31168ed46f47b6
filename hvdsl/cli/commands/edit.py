"""`hvdsl edit RUN --data images/ --set-given age=80 -o edit.png`: what images would be under other conditions."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.images import add_image_output, image_output
from hvdsl.cli.options.runs import add_given, add_machine, add_run, add_split, machine, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_set, positive_int


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    add_given(parser, "--set-given", "the new conditions")
    parser.add_argument("-n", "--number", metavar="N", type=positive_int, default=8, help="how many images (default 8)")
    add_split(parser, "test")
    add_image_output(parser, "a page of original, reconstruction, edit and difference, or the edits")
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.image_files import labelled_rows, save_png, write_images
    from hvdsl.workflows.conditions import stored_images
    from hvdsl.workflows.runs import spread_indices, used_images
    from hvdsl.workflows.trained import Trained

    with machine(args):
        model = opened(args)
        trained, data = Trained(model), model.spec.model.settings.data
        output = image_output(args.output, model, "edits.png")
        images = used_images(model.run, data, args.data, args.split)
        chosen = spread_indices(images, args.number)
        pixels, fields = stored_images(trained.model, images, chosen)
        edits = trained.edit(pixels, dict(args.set_given), given=fields, batch=args.batch or 64)
    if output.form == ".png":
        top = 2 ** pixel_bits(data) - 1
        difference = (edits.difference + top) / 2  # no change is grey
        rows = [edits.original, edits.reconstruction, edits.edited, difference]
        labels = ["original", "reconstruction", "edit", "difference"]
        save_png(labelled_rows(rows, labels, pixel_bits(data)), output.path)
        written = f"{len(edits.edited)}"
    else:
        written = write_images(output, edits.edited, data, images.names(chosen))
    print(f"wrote {output.path}: {written} of {images.name}", file=sys.stderr)
    if not edits.own_noise:
        print("the likelihood does not say what of a pixel is noise: edits are its mean", file=sys.stderr)
    return 0
