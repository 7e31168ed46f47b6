"""Options of sampling that only models of codes have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from hvdsl.errors import UsageError

Number = TypeVar("Number", int, float)


def add_code_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only models of codes have."""
    group = parser.add_argument_group("models of codes")
    for option, told in (
        ("--top-k", "draw from the N most probable codes"),
        ("--top-p", "draw from the most probable codes that together reach N"),
    ):
        group.add_argument(option, metavar="[LEVEL=]N", action="append", default=[], help=told)
    group.add_argument("--label", metavar="CLASS[,…]", help="the classes of the images, taken in turn")
    group.add_argument(
        "--fix",
        metavar="LEVEL=CODES",
        action="append",
        default=[],
        help="take a level's codes from a file, draw the rest",
    )
    group.add_argument("--keep", metavar="CODES", type=Path, help="with --mask: the codes of images to be painted in")
    group.add_argument(
        "--mask", metavar="PICTURE", type=Path, help="what to draw anew: everything but black, at the images' size"
    )


def per_level(texts: Sequence[str], levels: Sequence[str], number: type[Number], option: str) -> dict[str, Number]:
    """Read `0.9` (every level) and `z_top=0.9`, the later over the earlier.

    Raises:
        UsageError: no number, or no such level.
    """
    found: dict[str, Number] = {}
    for text in texts:
        level, equals, written = text.rpartition("=")
        if equals and level not in levels:
            raise UsageError(f"{option} {text}: there is no level `{level}`; the model has {', '.join(levels)}")
        try:
            value = number(written)
        except ValueError:
            raise UsageError(f"{option} {text}: `{written}` is not a number") from None
        found |= dict.fromkeys([level] if equals else levels, value)
    return found
