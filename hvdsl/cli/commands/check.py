"""`hvdsl check SPEC…`: every mistake in one run, against the source line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.shared import add_json, add_spec
from hvdsl.cli.output.diagnostics import report, report_json
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.workflows.compiling import checked


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print what is found")
    parser.add_argument("--strict", action="store_true", help="take warnings for errors: exit with 1 if there are any")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    as_json = args.json or args.format == "json"
    try:
        model = checked(args.spec, args.overrides)
    except SpecError as failure:
        return report_json(failure.diagnostics, spec=args.spec) if as_json else report(failure.diagnostics)
    numbers = {
        "model": model.settings.model,
        "parameters": model.graph.parameter_count(),
        "latent_groups": len(model.graph.latents),
    }
    refused = args.strict and bool(model.warnings)
    if as_json:
        report_json(model.warnings, spec=args.spec, ok=not refused, **numbers)
        return int(refused)
    report(model.warnings)
    if refused:
        print("--strict: warnings are errors; `# hv: allow CODE` at the end of a line allows one", file=sys.stderr)
        return 1
    print(
        f"{Path(args.spec).name}: {numbers['model']} is fine: "
        f"{numbers['parameters']:,} parameters, {numbers['latent_groups']} latent groups"
    )
    return 0
