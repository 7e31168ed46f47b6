"""`hvdsl info SPEC`: what a model costs, per resolution and in all."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.shared import add_json, add_spec
from hvdsl.cli.output.diagnostics import report
from hvdsl.cli.output.json import print_json
from hvdsl.workflows.compiling import checked, info


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    model = checked(args.spec, args.overrides)
    report(model.warnings)
    values = info(model)
    if args.json:
        print_json(values)
    else:
        from hvdsl.render.table import show_info

        show_info(values, sys.stdout)
    return 0
