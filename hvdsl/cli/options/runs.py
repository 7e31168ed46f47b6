"""Options of commands that use a run: which one, on what machine, given what."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import natural, path, positive_int

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
        type=path,
        help="a run folder that `hvdsl train` made, a checkpoint in one, or a .safetensors file that holds its spec",
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


def add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: an accelerator, if any)")
    parser.add_argument("--seed", metavar="N", type=natural, help="seed of every random draw")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", metavar="N", type=positive_int, help="threads of one operation on the CPU")


@contextmanager
def processes(args: argparse.Namespace) -> Iterator[bool]:
    """Join the others where `torchrun` started several, each with its accelerator; whether this one is to speak."""
    import os

    from hvdsl.runtime.ground.world import process_group, world
    from hvdsl.workflows.runs import device_of

    device = device_of(args.device)
    with process_group(device.type):
        if world().size > 1 and device.type != "cpu":
            args.device = f"{device.type}:{os.environ.get('LOCAL_RANK', '0')}"
        yield world().leads


@contextmanager
def machine(args: argparse.Namespace) -> Iterator[None]:
    """Apply `--threads` while a command works."""
    from hvdsl.workflows.calls import no_global_effect

    with no_global_effect(args.threads, remedy=None):  # the command line knows the command, and what it would take
        yield


def add_given(parser: argparse.ArgumentParser, flag: str = "--given", what: str = "what the images are given") -> None:
    """Add `--given NAME=VALUE`."""
    parser.add_argument(
        flag,
        metavar="NAME=VALUE",
        type=named_value,
        action="append",
        default=[],
        help=f"{what}: classes by number or name, or numbers (separated by commas, used in turn), an image, a folder, "
        "or none",
    )


def named_value(text: str) -> tuple[str, str]:
    """Read `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, as label=3, found `{text}`")
    return name, value
