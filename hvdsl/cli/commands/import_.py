"""`hvdsl import SOURCE WEIGHTS --spec SPEC --out RUN`: published weights as a run that evaluates and samples."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.images import name_and_file
from hvdsl.cli.options.shared import add_data, add_set, path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="the code base that published the weights, such as openai-vdvae or nvidia-nvae"
    )
    parser.add_argument("weights", metavar="WEIGHTS", type=path, help="its .th, .pt or .safetensors file")
    parser.add_argument(
        "--spec", metavar="SPEC", required=True, help="the model: a file, or the name of a shipped spec"
    )
    parser.add_argument(
        "--ema", metavar="WEIGHTS", type=path, help="the published running average, if it is a second file"
    )
    parser.add_argument(
        "--prior",
        metavar="LATENT=WEIGHTS",
        type=name_and_file,
        action="append",
        default=[],
        help="the published prior of a discrete latent; may be repeated",
    )
    parser.add_argument("--out", metavar="RUN", type=path, required=True, help="the run folder to create")
    add_data(parser)
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.workflows.import_weights import ImportOptions, run_import

    options = ImportOptions(
        source=args.source,
        weights=args.weights,
        spec=args.spec,
        out=args.out,
        ema=args.ema,
        prior=tuple(args.prior),
        data=args.data,
        overrides=tuple(args.overrides),
    )
    run = run_import(options)
    print(f"imported {args.weights.name} into {run.folder}", file=sys.stderr)
    return 0
