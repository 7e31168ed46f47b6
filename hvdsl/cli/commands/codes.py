"""`hvdsl codes RUN -o codes.npz`: the codes of a data set, for other people's models."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.runs import add_checkpoint, add_machine, add_run_folder, add_split, machine, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_output
from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    add_checkpoint(parser)
    add_split(parser, "train")
    add_output(parser, "the .npz or .safetensors file to write", required=True)
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.runtime.codes.files import SUFFIXES, write_codes
    from hvdsl.workflows.open import first_stage
    from hvdsl.workflows.stages import codes_of_images

    if args.output.suffix not in SUFFIXES:
        raise UsageError(f"codes cannot be written as `{args.output}`: give a file that ends in .npz or .safetensors")
    with machine(args):
        model = opened(args)
        console = Console(stderr=True)
        store, images = codes_of_images(first_stage(model), args.data, args.split, args.batch, console)
        names = images.names(range(len(images)))
    write_codes(args.output, store, model.spec.model.settings.model, names)
    levels = "; ".join(f"{level.name}: {level}" for level in store.levels)
    print(f"wrote {args.output}: codes of {images.name}; {levels}", file=sys.stderr)
    return 0
