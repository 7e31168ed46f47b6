"""Options of every command that runs a model: the device, the threads, the seed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from hvdsl.cli.options.shared import natural, positive


def add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: an accelerator, if any)")
    parser.add_argument("--seed", metavar="N", type=natural, help="seed of every random draw")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", metavar="N", type=positive, help="threads of one operation on the CPU")


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
    from hvdsl.workflows.isolation import no_global_effect

    with no_global_effect(args.threads, remedy=None):  # the command line knows the command, and what it would take
        yield
