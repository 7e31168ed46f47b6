"""Where images are written, and which groups are meant."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import temperature
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from hvdsl.runtime.inference.image_files import ImageOutput
    from hvdsl.workflows.open import Opened

FORMS = "a folder (`out/`, a PNG each), .png (one page), .npy or .npz (an array of all)"


def add_image_output(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    """`-o`: images as the ending says."""
    # A text, not a Path, which would forget the slash of a folder.
    parser.add_argument("-o", "--output", metavar="FILE", required=required, help=f"{help}: {FORMS}")


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
