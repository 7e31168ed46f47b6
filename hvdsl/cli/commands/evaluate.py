"""`hvdsl eval RUN`: bits per dimension, rate and distortion."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from hvdsl.cli.options import add_json, add_machine, add_output, add_set, positive
from hvdsl.cli.run_options import add_run

if TYPE_CHECKING:
    from hvdsl.cli.runs import Trained
    from hvdsl.runtime.evaluate import Evaluation


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="which images (default test)"
    )
    parser.add_argument(
        "--samples", metavar="K", type=positive, help="posterior samples per image; more than 1: importance-weighted"
    )
    add_output(parser, "also draw the rate of each latent group, as a PNG")
    add_json(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.runs import open_trained
    from hvdsl.runtime.evaluate import evaluate

    trained = open_trained(args)
    data = getattr(trained.splits(), args.split)
    samples = args.samples or trained.model.settings.evaluate.samples
    result = evaluate(trained.module, data, samples=samples, batch=args.batch or 64, seed=args.seed or 0)
    if args.json:
        print(json.dumps(result.as_json() | {"split": args.split, "step": trained.step}, indent=2))
    else:
        print(_table(result, args.split))
    if args.output is not None:
        _draw(result, trained, args)
    return 0


def _table(result: Evaluation, split: str) -> str:
    return "\n".join(
        (
            f"{result.bits_per_dim:.4f} bits/dim  (± {result.standard_error:.4f}, {result.images:,} {split} images)",
            f"{result.nats_per_dim:.4f} nats/dim  = distortion {result.distortion:.4f} + rate {result.rate:.4f}"
            if result.samples == 1
            else f"{result.nats_per_dim:.4f} nats/dim  (importance-weighted, {result.samples} samples)",
            f"{sum(result.rate_per_group):.2f} nats per image in {len(result.rate_per_group)} latent groups",
        )
    )


def _draw(result: Evaluation, trained: Trained, args: argparse.Namespace) -> None:
    from hvdsl.runtime.objective import latent_groups
    from hvdsl.runtime.pictures import rate_bars, save_png

    labels = [f"{group.name} {'×'.join(map(str, group.shape))}" for group in latent_groups(trained.module)]
    labels = [label.replace("×", "x") for label in labels]
    title = f"Rate of each latent group, {trained.model.settings.title or trained.model.settings.model}"
    save_png(rate_bars(result.rate_per_group, labels, title), args.output)
