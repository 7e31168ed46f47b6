"""Options of every command that uses a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import natural

if TYPE_CHECKING:
    from hvdsl.workflows.open import CheckpointName, Opened

SPLITS = ("train", "validation", "test")


def add_run(parser: argparse.ArgumentParser) -> None:
    add_run_folder(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--no-ema", action="store_false", dest="use_ema", help="use the last weights, not their running average"
    )


def add_run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="a run folder, as `hvdsl train` makes it, a checkpoint in one, or a .safetensors file with its spec",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        "--step",
        metavar="WHICH",
        type=checkpoint,
        default="last",
        help="last (the default), best (the lowest bound on the validation images), or a step",
    )


def add_split(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--split", choices=SPLITS, help=f"which images (default {default}; of --data, all where it has no parts)"
    )


def checkpoint(text: str) -> CheckpointName:
    """Read `last`, `best` or a step."""
    match text:
        case "last" | "best":
            return text
    try:
        return natural(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected last, best or a step, found `{text}`") from None


def opened(args: argparse.Namespace, device: str | None = None) -> Opened:
    """Open the run that a command names, as its options say, or on another `device`."""
    from hvdsl.workflows.open import open_model

    use_ema = getattr(args, "use_ema", True)
    overrides = tuple(getattr(args, "overrides", ()))
    return open_model(args.run, args.checkpoint, use_ema, overrides, device or args.device)
