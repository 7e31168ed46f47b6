"""`hvdsl score RUN --data images/ -o scores.csv`: how likely each image is, and which do not belong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hvdsl.cli.options.runs import add_given, add_machine, add_run, add_split, machine, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_json, add_output, add_set, natural, path, positive_int
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from hvdsl.workflows.score import Roc, Scores


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    add_given(parser, what="conditions of the images, instead of their own")
    add_split(parser, "test")
    add_output(parser, "a .csv with a row for each image")
    parser.add_argument(
        "--against",
        metavar="PATH",
        type=path,
        help="other images: say how well each score separates them from the first",
    )
    parser.add_argument("--roc", metavar="FILE", type=path, help="with --against: draw the ROC, as .png, .svg or .pdf")
    parser.add_argument(
        "--samples",
        metavar="K",
        type=positive_int,
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

    from hvdsl.cli.output import print_json
    from hvdsl.draw import charts
    from hvdsl.render.terminal import Terminal
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
        charts.write_chart(charts.roc_chart(curves, f"{first.images} against {others[0].images}"), args.roc)
    if args.json:
        print_json(_as_json(scored, curves))
    else:
        Terminal(sys.stdout).lines(_lines(scored, curves))
    return 0


def _lines(scored: Sequence[Scores], curves: Mapping[str, Roc]) -> Iterator[str]:
    """Say the mean of each set and its least likely images, and how well the two are told apart."""
    for scores in scored:
        mean, nats = scores.bits_per_dim.mean().item(), scores.negative_elbo.mean().item()
        ratio = "" if scores.llr is None else f", LLR>{scores.k} {scores.llr.mean().item():.2f} nats"
        yield f"{mean:.4f} bits/dim, {nats:.2f} nats/image{ratio}  ({scores.images})"
        yield "  least likely: " + ", ".join(f"{name} {bits:.4f}" for name, bits in scores.highest())
    for name, curve in curves.items():
        yield f"AUROC {curve.auroc:.4f}  by {name}"


def _as_json(scored: Sequence[Scores], curves: Mapping[str, Roc]) -> dict[str, Any]:
    """Return what `score --json` prints."""
    sets = [
        {"images": s.images, "names": list(s.names), **{name: c.tolist() for name, c in s.columns.items()}}
        for s in scored
    ]
    return {"sets": sets, "auroc": {name: curve.auroc for name, curve in curves.items()}}
