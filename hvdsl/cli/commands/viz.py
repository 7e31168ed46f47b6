"""`hvdsl viz graph SPEC -o FILE`: the ladder as papers draw it."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.shared import add_output, add_spec
from hvdsl.cli.output.diagnostics import report
from hvdsl.errors import UsageError
from hvdsl.runtime.ground.disk import write_output
from hvdsl.workflows.compiling import checked

SUFFIXES = (".svg", ".png", ".dot", ".mmd", ".json", ".html")


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    graph = kinds.add_parser("graph", help="the hierarchy: bottom-up column, top-down column, taps, latents, priors")
    add_spec(graph)
    add_output(graph, f"what to write; the ending says the form: {' '.join(SUFFIXES)}", required=True)


def run(args: argparse.Namespace) -> int:
    if args.output.suffix not in SUFFIXES:
        raise UsageError(f"cannot draw into `{args.output}`: its ending should be one of {', '.join(SUFFIXES)}")
    from hvdsl.draw import draw

    model = checked(args.spec, args.overrides)
    report(model.warnings)
    write_output(args.output, draw(model, args.output.suffix))
    print(f"wrote {args.output}", file=sys.stderr)
    return 0
