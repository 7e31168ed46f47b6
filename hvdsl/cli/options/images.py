"""Options of commands that write images: where they go, how warm, and which codes are drawn."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hvdsl.cli.options.shared import path, place, positive_int, temperature
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from hvdsl.runtime.inference.image_files import ImageOutput
    from hvdsl.runtime.priors.sampling import Schedule
    from hvdsl.workflows.open import Opened

FORMS = "a folder (`out/`, a PNG each), .png (one page), .npy or .npz (an array of all)"


def add_image_output(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    """`-o`: images as the ending says."""
    # A text, not a Path, which would forget the slash of a folder.
    parser.add_argument("-o", "--output", metavar="FILE", type=place, required=required, help=f"{help}: {FORMS}")


def image_output(text: str | None, run: Opened, name: str) -> ImageOutput:
    """Where images go: what `-o` says, else one of the run's own pictures.

    Raises:
        UsageError: neither says it, or the ending is none of images.
    """
    from hvdsl.runtime.inference.image_files import ImageOutput

    if text is not None:
        return ImageOutput.of(text)
    if run.run is None:
        raise UsageError("a single file has no folder for pictures: say where to write with `-o FILE.png`")
    return ImageOutput(run.run.pictures / name, ".png")


def temperatures(text: str) -> tuple[tuple[str, float], ...]:
    """Read `0.9`, for all, as (("", 0.9),); `z_top=0.9`, or `32: 0.7, else: 0.9`, by what each is for.

    `else` comes first, since the later is taken over the earlier.
    """
    if ":" not in text:
        name, _, value = text.rpartition("=")
        return ((name, temperature(value)),)
    pairs = []
    for part in text.split(","):
        name, colon, value = part.partition(":")
        if not colon or not name.strip():
            raise argparse.ArgumentTypeError(f"expected a temperature, or WHERE: T parted by commas, found `{text}`")
        pairs.append(("" if name.strip() == "else" else name.strip(), temperature(value.strip())))
    return tuple(sorted(pairs, key=lambda pair: bool(pair[0])))


Value = TypeVar("Value")


def add_code_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only models of codes have."""
    parser.add_argument(
        "--fix",
        metavar="GROUP=FILE",
        type=name_and_file,
        action="append",
        default=[],
        help="take a group's latents (z.3), or a level's codes, from a file that `hvdsl encode` wrote; draw the rest",
    )
    group = parser.add_argument_group("models of codes")
    group.add_argument(
        "--top-k",
        metavar="[LEVEL=]N",
        type=leveled(positive_int),
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
        "--label", metavar="CLASS[,…]", type=class_numbers, default=(), help="the classes of the images, used in turn"
    )
    group.add_argument("--keep", metavar="CODES", type=path, help="with --mask: the codes of the images to in-paint")
    group.add_argument(
        "--mask", metavar="PICTURE", type=path, help="what to draw anew: everything but black, at the images' size"
    )
    group.add_argument(
        "--schedule",
        metavar="[LEVEL=]ORDER",
        type=leveled(drawing_order),
        action="append",
        default=[],
        help="raster: codes one by one (default); wavefront: together codes that do not see each other (no attention)",
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


def drawing_order(text: str) -> Schedule:
    """Read the order of drawing."""
    match text:
        case "raster" | "wavefront":
            return text
    raise argparse.ArgumentTypeError(f"expected `raster` or `wavefront`, found `{text}`")


def class_numbers(text: str) -> tuple[int, ...]:
    """Read `0,1,2`: the classes of images."""
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(
            f"expected the numbers of classes, as 0,1,2, found `{text}`; `--given label={text}` takes names, too"
        )
    return tuple(int(word) for word in words)


def name_and_file(text: str) -> tuple[str, Path]:
    """Read `NAME=FILE`."""
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, found `{text}`")
    return name, Path(path)
