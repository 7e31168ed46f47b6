"""`hvdsl info SPEC`: what a model costs, per resolution and in all; `--memory`: what a training step takes."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.shared import add_json, add_spec, positive_int
from hvdsl.cli.output import print_diagnostics, print_json
from hvdsl.errors import UsageError
from hvdsl.workflows.compiling import checked, info


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument("--memory", action="store_true", help="memory of a training step of one process, by purpose")
    parser.add_argument("--batch", metavar="N", type=positive_int, help="images in that step (default: the spec's)")
    parser.add_argument(
        "--precision", choices=("fp32", "tf32", "bf16", "fp16"), help="arithmetic of that step (default: the spec's)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    asked = {"train.batch": args.batch, "train.precision": args.precision}
    changed = [f"{key}={value}" for key, value in asked.items() if value is not None]
    if changed and not args.memory:
        raise UsageError("--batch and --precision are about the memory of a training step: add --memory")
    model = checked(args.spec, [*args.overrides, *changed])
    print_diagnostics(model.warnings)
    if args.memory:
        from hvdsl.workflows.plan import make_plan

        plan = make_plan(model, 1)
        if args.json:
            print_json(plan.to_json())
        else:
            print("\n".join(plan.memory_lines()))
        return 0
    values = info(model)
    if args.json:
        print_json(values)
    else:
        from hvdsl.render.table import show_info

        show_info(values, sys.stdout)
    return 0
