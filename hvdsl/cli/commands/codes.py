"""`hvdsl codes RUN -o codes.npz`: the codes of a data set, for other people's models."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options import add_batch, add_data, add_machine, add_output
from hvdsl.cli.run_options import add_checkpoint, add_run_folder


def configure(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="train", help="which images (default train)"
    )
    add_output(parser, "the .npz or .safetensors file to write", required=True)
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.runs import data_path, use_machine
    from hvdsl.cli.stages import extract, open_autoencoder
    from hvdsl.runtime.codes.files import check_suffix, write_codes
    from hvdsl.runtime.data import open_data
    from hvdsl.runtime.training.run import Run

    check_suffix(args.output)
    first = open_autoencoder(Run.open(args.run_folder), use_machine(args), step=args.step)
    splits = open_data(first.model.settings.data, data_path(first.run, args.data))
    store = extract(first, getattr(splits, args.split), args.split, args.batch)
    write_codes(args.output, store, first.model.settings.model)
    levels = "; ".join(f"{level.name}: {level}" for level in store.levels)
    print(f"wrote {args.output}: {len(store):,} images, {levels}", file=sys.stderr)
    return 0
