"""`hvdsl decode RUN codes.npz -o images.png`: codes as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.machine import add_machine, machine
from hvdsl.cli.options.runs import add_checkpoint, add_run_folder, opened
from hvdsl.cli.options.shared import add_batch, add_output


def configure(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    parser.add_argument("latents", metavar="CODES", type=Path, help="a file as `hvdsl codes` writes it")
    add_checkpoint(parser)
    add_output(
        parser,
        "a .png for one page of them, an .npy for bytes (N, H, W, 3), or a folder for a PNG each",
        required=True,
    )
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.runtime.codes.files import read_codes
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.pictures import save_images
    from hvdsl.workflows.open import first_stage
    from hvdsl.workflows.trained import Trained

    with machine(args):
        model = opened(args)
        first = first_stage(model)
        images = Trained(model).decode(read_codes(args.latents, first.levels, first.digest), batch=args.batch or 64)
    save_images(images, pixel_bits(model.spec.model.settings.data), args.output)
    print(f"wrote {args.output}: {len(images):,} images", file=sys.stderr)
    return 0
