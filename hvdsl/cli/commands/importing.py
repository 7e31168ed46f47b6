"""`hvdsl import SOURCE WEIGHTS --spec SPEC --out RUN`: published weights as a run that evaluates and samples."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options import add_data, add_set, checked
from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="the code base that published the weights, such as openai-vdvae or nvidia-nvae"
    )
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, help="its .th, .pt or .safetensors file")
    parser.add_argument(
        "--spec", metavar="SPEC", required=True, help="the model: a file, or the name of a shipped spec"
    )
    parser.add_argument(
        "--ema", metavar="WEIGHTS", type=Path, help="the published running average, if it is a second file"
    )
    parser.add_argument("--out", metavar="RUN", type=Path, required=True, help="the run folder to make")
    add_data(parser)
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.importers import read_weights, rename, table
    from hvdsl.importers.names import sources

    if args.source not in sources():
        raise UsageError(f"there is no importer `{args.source}`; known are {', '.join(sources())}")
    model = checked(args.spec, args.overrides)

    from hvdsl.cli.runs import create_run, instantiate
    from hvdsl.runtime.weights import model_tensors

    own = model_tensors(instantiate(model))
    names = {name: tuple(tensor.shape) for name, tensor in own.items()}
    files = {"model": args.weights} | ({"ema": args.ema} if args.ema else {})
    entry = table(args.source).entry
    parts = {part: rename(args.source, names, read_weights(path, entry)) for part, path in files.items()}
    made = create_run(args.out, args.spec, model, args.data)
    made.checkpoints().save(0, parts, {"imported": args.source})
    print(f"imported {args.weights.name} into {made.folder}", file=sys.stderr)
    return 0
