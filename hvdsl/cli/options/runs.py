"""Options of every command that uses a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from hvdsl.cli.options import natural


def add_run(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--no-ema", action="store_false", dest="use_ema", help="use the last weights, not their running average"
    )


def add_run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, as `hvdsl train` makes it")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step", metavar="N", type=natural, help="use the checkpoint of this step (default: the newest)"
    )
