"""Options that several commands share, spelled once."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

LEVELS = (
    "exactly what the spec says",
    "rewrites that keep the mathematics (default)",
    "also torch.compile of repeated recipes, where the model is built",
)


def add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a file, FILE@VARIANT, or the name of a shipped spec")
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="replace a `let` (width=64) or a setting (train.batch=16); may be repeated",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def add_level(parser: argparse.ArgumentParser) -> None:
    """`-O0`, `-O1`, `-O2`; `args.level` is None where none is given."""
    level = parser.add_mutually_exclusive_group()
    for n, meaning in enumerate(LEVELS):
        level.add_argument(f"-O{n}", action="store_const", const=n, dest="level", help=meaning)


def add_output(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", type=path, required=required, help=help)


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="PATH",
        type=path,
        help="where the spec's data is read from: a path, or `hf://OWNER/NAME` on a hub",
    )


def add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", metavar="N", type=positive_int, help="images per batch")


def place(text: str) -> str:
    """Read the name of a file or folder; nothing would be the folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("expected a file or folder, found nothing")
    return text


def path(text: str) -> Path:
    """Read a file or folder."""
    return Path(place(text))


def natural(text: str) -> int:
    return _integer(text, 0)


def positive_int(text: str) -> int:
    return _integer(text, 1)


def temperature(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, found `{text}`")
    return number


def _integer(text: str, least: int) -> int:
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found `{text}`")
    return number
