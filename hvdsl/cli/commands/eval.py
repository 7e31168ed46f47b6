"""`hvdsl eval RUN`: bits per dimension, rate and distortion."""

from __future__ import annotations

import argparse

from hvdsl.cli.options.given import add_given
from hvdsl.cli.options.machine import add_machine, machine, processes
from hvdsl.cli.options.runs import add_run, add_split, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_json, add_output, add_set, positive


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    add_split(parser, "test")
    parser.add_argument(
        "--samples", metavar="K", type=positive, help="posterior samples per image; more than 1: importance-weighted"
    )
    add_output(parser, "also draw the rate of each latent group: .png, .svg or .pdf")
    parser.add_argument(
        "--baselines", action="store_true", help="also say what PNG and a histogram need for the same images"
    )
    add_given(parser, what="what the images are given in place of what they are")
    add_json(parser)
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.cli.output.charts import check_chart
    from hvdsl.cli.output.evaluation import rate_chart, table
    from hvdsl.cli.output.json import print_json
    from hvdsl.workflows.trained import Trained

    if args.output is not None:
        check_chart(args.output)
    with machine(args), processes(args) as leads:
        trained = Trained(opened(args))
        result = trained.evaluate(
            data=args.data,
            split=args.split,
            samples=args.samples,
            baselines=args.baselines,
            batch=args.batch or 64,
            seed=args.seed or 0,
            console=Console(stderr=True) if leads else None,
            given=dict(args.given),
        )
    if not leads:
        return 0
    if args.json:
        print_json(result.as_json())
    else:
        print(table(result))
    if args.output is not None:
        rate_chart(result, trained, args.output)
    return 0
