"""`hvdsl runs [FOLDER]`: the runs in a folder, with their states and best figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import add_json, path

if TYPE_CHECKING:
    from hvdsl.workflows.overview import RunOverview

COLOURS = {"running": "green", "failed": "red", "not begun": "dim", "stopped": "yellow"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=path,
        nargs="?",
        default=Path("runs"),
        help="the folder that holds the runs (default: runs)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.output import print_json
    from hvdsl.workflows.overview import list_runs

    found = list_runs(args.folder)
    if args.json:
        print_json({"folder": str(args.folder), "runs": [one.as_json() for one in found]})
    elif not found:
        print(f"no runs in {args.folder}")
    else:
        _show(found)
    return 0


def _show(found: list[RunOverview]) -> None:
    import sys

    from rich.text import Text

    from hvdsl.render.numbers import in_bytes
    from hvdsl.render.terminal import TableColumn, Terminal

    words = ("run", "state", "best validation", "training")
    headings = ("run", "state", "step", "best validation", "training", "changed", "size")
    rows = [
        (
            _plain(one.name),
            Text(one.state, style=COLOURS.get(one.state, "")),
            f"{one.step:,}" if one.steps is None else f"{one.step:,}/{one.steps:,}",
            "" if one.best is None else f"{_figure(one, one.best)} at {one.best_step:,}",
            "" if one.last is None else _figure(one, one.last),
            ago(one.age_seconds),
            in_bytes(one.bytes),
        )
        for one in found
    ]
    terminal = Terminal(sys.stdout)
    terminal.table([TableColumn(heading, heading in words) for heading in headings], rows)
    terminal.lines(_plain(f"{one.name}: {one.problem}") for one in found if one.problem)


def _figure(one: RunOverview, value: float) -> str:
    from hvdsl.runtime.ground.metric_names import METRICS

    return f"{value:.4f} {METRICS[one.judged_by or ''].heading}"


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def ago(seconds: float) -> str:
    """How long ago something was, in its largest unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
