"""`hvdsl info SPEC`: what a model costs, per resolution and in all."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from hvdsl.cli.options import add_json, add_spec, checked
from hvdsl.cli.report import report

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    model = checked(args.spec, args.overrides)
    report(model.warnings)
    info = _info(model)
    if args.json:
        print(json.dumps(info, indent=2))
    else:
        from hvdsl.render.table import show_info

        show_info(info, sys.stdout)
    return 0


def _info(model: Model) -> dict[str, Any]:
    from hvdsl.compiler.analysis.priors import prior_summary
    from hvdsl.compiler.analysis.summary import summary

    priors = [prior_summary(graph).to_json() for graph in model.priors.values()]
    return {"title": model.settings.title, **summary(model.graph).to_json(), "priors": priors}
