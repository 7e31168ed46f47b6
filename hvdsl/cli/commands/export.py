"""`hvdsl export RUN -o model.pt2`: a trained model for others."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.runs import add_run, add_threads, machine, opened
from hvdsl.cli.options.shared import add_set


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="model.pt2 (torch.export), model.onnx (a file per program), or a folder as model hubs take it",
    )
    parser.add_argument("--license", metavar="NAME", help="of the weights, for a folder's model card (apache-2.0, …)")
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.workflows.trained import Trained

    with machine(args):
        trained = Trained(opened(args, device="cpu"))
        files = trained.export(args.output, license=args.license, console=Console(stderr=True))
    names = ", ".join(map(str, files))
    print(f"wrote {names}: loaded back without hvdsl, and the same for other numbers of images", file=sys.stderr)
    return 0
