"""Options of sampling that only models of codes have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hvdsl.cli.options.shared import positive

if TYPE_CHECKING:
    from hvdsl.runtime.priors.sampling import Schedule

Value = TypeVar("Value")


def add_code_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only models of codes have."""
    parser.add_argument(
        "--fix",
        metavar="GROUP=FILE",
        type=assignment,
        action="append",
        default=[],
        help="take a group's latents (z.3), or a level's codes, from a file as `hvdsl encode` writes it, draw the rest",
    )
    group = parser.add_argument_group("models of codes")
    group.add_argument(
        "--top-k",
        metavar="[LEVEL=]N",
        type=leveled(positive),
        action="append",
        default=[],
        help="draw from the N most probable codes",
    )
    group.add_argument(
        "--top-p",
        metavar="[LEVEL=]P",
        type=leveled(probability),
        action="append",
        default=[],
        help="draw from the most probable codes that together reach P",
    )
    group.add_argument(
        "--label", metavar="CLASS[,…]", type=labels, default=(), help="the classes of the images, taken in turn"
    )
    group.add_argument("--keep", metavar="CODES", type=Path, help="with --mask: the codes of images to be painted in")
    group.add_argument(
        "--mask", metavar="PICTURE", type=Path, help="what to draw anew: everything but black, at the images' size"
    )
    group.add_argument(
        "--schedule",
        metavar="[LEVEL=]ORDER",
        type=leveled(schedule),
        action="append",
        default=[],
        help="raster: codes one by one (default); wavefront: at once what does not see each other, without attention",
    )


def leveled(value: Callable[[str], Value]) -> Callable[[str], tuple[str, Value]]:
    """Return what reads `0.9`, for every level, as ("", 0.9), and `z_top=0.9` as ("z_top", 0.9)."""

    def read(text: str) -> tuple[str, Value]:
        level, _, written = text.rpartition("=")
        return level, value(written)

    return read


def probability(text: str) -> float:
    """Read a number above 0 and at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 1, found `{text}`")
    return number


def schedule(text: str) -> Schedule:
    """Read the order of drawing."""
    match text:
        case "raster" | "wavefront":
            return text
    raise argparse.ArgumentTypeError(f"expected `raster` or `wavefront`, found `{text}`")


def labels(text: str) -> tuple[int, ...]:
    """Read `0,1,2`: the classes of images."""
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(
            f"expected the numbers of classes, as 0,1,2, found `{text}`; `--given label={text}` takes names, too"
        )
    return tuple(int(word) for word in words)


def assignment(text: str) -> tuple[str, Path]:
    """Read `NAME=FILE`."""
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, found `{text}`")
    return name, Path(path)
