"""`hvdsl report RUN [RUN …] -o report.html`: what came of runs, on one page that needs nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.runs import add_checkpoint, add_machine, machine
from hvdsl.cli.options.shared import add_output, path, temperature


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=path, help="run folders; the first is compared with the others"
    )
    add_output(parser, "the page to write (default: report.html)")
    parser.add_argument("--no-pictures", action="store_false", dest="pictures", help="open no model: use only the logs")
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=temperature,
        action="append",
        default=[],
        help="temperature of a row of samples; may be repeated (default: 0.7, 0.85 and 1)",
    )
    add_checkpoint(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.workflows.report import ReportOptions, write_report

    chosen = {"temperatures": tuple(args.temperature)} if args.temperature else {}
    options = ReportOptions(
        pictures=args.pictures, checkpoint=args.checkpoint, device=args.device, seed=args.seed or 0, **chosen
    )
    with machine(args):
        written = write_report(args.runs, args.output or Path("report.html"), options, Console(stderr=True))
    print(f"wrote {written}", file=sys.stderr)
    return 0
