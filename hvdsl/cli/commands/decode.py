"""`hvdsl decode RUN codes.npz -o images.png`: codes as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options import add_batch, add_machine, add_output
from hvdsl.cli.run_options import add_checkpoint, add_run_folder


def configure(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    parser.add_argument("codes", metavar="CODES", type=Path, help="a file as `hvdsl codes` writes it")
    add_checkpoint(parser)
    add_output(
        parser,
        "a .png for one page of them, an .npy for bytes (N, H, W, 3), or a folder for a PNG each",
        required=True,
    )
    add_batch(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.runs import use_machine
    from hvdsl.cli.stages import open_autoencoder
    from hvdsl.runtime.codes.codec import decode
    from hvdsl.runtime.codes.files import read_codes
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.pictures import save_images
    from hvdsl.runtime.training.run import Run

    first = open_autoencoder(Run.open(args.run_folder), use_machine(args), step=args.step)
    data = first.model.settings.data
    images = decode(first.module, data, read_codes(args.codes, first.levels, first.digest), batch=args.batch or 64)
    save_images(images, pixel_bits(data), args.output)
    print(f"wrote {args.output}: {len(images):,} images", file=sys.stderr)
    return 0
