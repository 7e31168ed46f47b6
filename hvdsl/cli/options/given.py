"""Options that say what images are conditioned on."""

from __future__ import annotations

import argparse


def add_given(parser: argparse.ArgumentParser, flag: str = "--given", what: str = "what the images are given") -> None:
    """Add `--given NAME=VALUE`."""
    parser.add_argument(
        flag,
        metavar="NAME=VALUE",
        type=named_value,
        action="append",
        default=[],
        help=f"{what}: classes by number or name, or numbers, by commas and taken in turn, an image, a folder, or none",
    )


def named_value(text: str) -> tuple[str, str]:
    """Read `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, as label=3, found `{text}`")
    return name, value
