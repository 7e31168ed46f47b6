"""`hvdsl score RUN --data images/ -o scores.csv`: how likely each image is, and which do not belong."""

from __future__ import annotations

import argparse
from pathlib import Path

from hvdsl.cli.options.given import add_given
from hvdsl.cli.options.machine import add_machine, machine
from hvdsl.cli.options.runs import add_run, add_split, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_json, add_output, add_set, natural, positive
from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    add_given(parser, what="what the images are given in place of what they are")
    add_split(parser, "test")
    add_output(parser, "a .csv with a row for each image")
    parser.add_argument(
        "--against", metavar="PATH", type=Path, help="other images: say how well each score tells them from the first"
    )
    parser.add_argument("--roc", metavar="FILE", type=Path, help="with --against: draw the ROC, as .png, .svg or .pdf")
    parser.add_argument(
        "--samples",
        metavar="K",
        type=positive,
        default=1,
        help="posterior samples per image; more than 1: also the importance-weighted bound (default 1)",
    )
    parser.add_argument(
        "--llr",
        metavar="K",
        type=natural,
        help="k of LLR>k, the bound less the bound with the k last groups from their priors (default: half of them; 0: "
        "none)",
    )
    add_json(parser)
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.cli.output import charts
    from hvdsl.cli.output.json import print_json
    from hvdsl.cli.output.scores import as_json, lines
    from hvdsl.workflows.score import check_table
    from hvdsl.workflows.trained import Trained

    if args.roc is not None and args.against is None:
        raise UsageError("--roc draws how well two sets are told apart: give the other set with `--against`")
    if args.output is not None:
        check_table(args.output)
    if args.roc is not None:
        charts.check_chart(args.roc)
    with machine(args):
        trained, scored = Trained(opened(args)), []
        for data in (args.data, args.against)[: 1 if args.against is None else 2]:
            scores = trained.score(
                data=data,
                split=args.split if data == args.data else None,
                samples=args.samples,
                llr=args.llr,
                batch=args.batch or 64,
                seed=args.seed or 0,
                console=Console(stderr=True),
                given=dict(args.given),
            )
            scored.append(scores)
    first, *others = scored
    curves = first.roc(others[0]) if others else {}
    if args.output is not None:
        first.write(args.output, *others)
    if args.roc is not None:
        charts.write_chart(charts.roc(curves, f"{first.images} against {others[0].images}"), args.roc)
    if args.json:
        print_json(as_json(scored, curves))
    else:
        print("\n".join(lines(scored, curves)))
    return 0
