"""`hvdsl eval RUN`: bits per dimension, rate and distortion."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options.runs import add_given, add_machine, add_run, add_split, machine, opened, processes
from hvdsl.cli.options.shared import add_batch, add_data, add_json, add_output, add_set, positive_int
from hvdsl.errors import UsageError

if TYPE_CHECKING:
    from hvdsl.runtime.inference.evaluate import Evaluation
    from hvdsl.runtime.priors.evaluate import CodeEvaluation
    from hvdsl.workflows.evaluate import EvaluationResult
    from hvdsl.workflows.open import Opened
    from hvdsl.workflows.trained import Trained


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    add_split(parser, "test")
    parser.add_argument(
        "--samples",
        metavar="K",
        type=positive_int,
        help="posterior samples per image; more than 1: importance-weighted",
    )
    add_output(parser, "also draw the rate of each latent group: .png, .svg or .pdf")
    parser.add_argument(
        "--baselines", action="store_true", help="also say what PNG and a histogram need for the same images"
    )
    add_given(parser, what="conditions of the images, instead of their own")
    add_json(parser)
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.cli.output import print_json
    from hvdsl.draw.charts import check_chart
    from hvdsl.render.terminal import Terminal
    from hvdsl.workflows.trained import Trained

    if args.output is not None:
        check_chart(args.output)
    with machine(args), processes(args) as leads:
        model = opened(args)
        if model.spec.model.is_of_codes:
            return _codes(args, model, leads)
        trained = Trained(model)
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
        Terminal(sys.stdout).lines(_table(result))
    if args.output is not None:
        _write_rates(result, trained, args.output)
    return 0


def _codes(args: argparse.Namespace, model: Opened, leads: bool) -> int:
    """Say what codes from a file cost under their priors."""
    from rich.console import Console

    from hvdsl.cli.output import print_json
    from hvdsl.render.terminal import Terminal
    from hvdsl.workflows.code_priors import evaluate_file_codes

    for flag in ("samples", "baselines", "output", "given"):
        if getattr(args, flag):
            raise UsageError(f"--{flag} is about images, and these are priors over codes from a file: leave it out")
    console = Console(stderr=True) if leads else None
    codes, images = evaluate_file_codes(model, args.data, args.split, args.batch or 64, console)
    if leads and args.json:
        print_json(codes.as_json() | {"split": args.split})
    elif leads:
        Terminal(sys.stdout).lines(_level_lines(codes, images))
    return 0


def _table(result: EvaluationResult) -> list[str]:
    """Return the lines that `hvdsl eval` prints."""
    codes = result.codes
    lines = (
        _bound_lines(result.bound, result.images) if codes is None else _code_lines(codes, result.bound, result.images)
    )
    for name, bits in result.baselines.items():
        coder = name.removesuffix("_bits_per_dim")
        lines.append(f"no {coder}" if bits is None else f"{bits:.4f} bits/dim  by {coder}")
    return lines


def _write_rates(result: EvaluationResult, trained: Trained, path: Path) -> None:
    """Draw the rate of each latent group, as the ending of `path` says."""
    from hvdsl.draw.charts import rates_chart, write_chart
    from hvdsl.runtime.protocol import as_vae

    settings = trained.spec.model.settings
    labels = [f"{group.name} {'x'.join(map(str, group.shape))}" for group in as_vae(trained.model).LATENTS]
    title = f"Rate of each latent group, {settings.title or settings.model}"
    write_chart(rates_chart(result.bound.rate_per_group, labels, title), path)


def _bound_lines(bound: Evaluation, images: str) -> list[str]:
    if not bound.density:
        bits = bound.as_metrics()["rate_bits_per_image"]
        return [
            f"{bound.distortion:.6f} error per value  ({images})",
            f"{bits:,.1f} bits per image, {bound.bits_per_dim:.4f} bits/dim, in codes of uniform priors",
        ]
    error = f"± {bound.standard_error:.4f}, " if bound.images > 1 else ""  # of one image there is none
    return [
        f"{bound.bits_per_dim:.4f} bits/dim  ({error}{images})",
        f"{bound.nats_per_dim:.4f} nats/dim, {bound.nats_per_image:.2f} nats/image  "
        + (
            f"= distortion {bound.distortion:.4f} + rate {bound.rate:.4f} nats/dim"
            if bound.samples == 1
            else f"(importance-weighted, {bound.samples} samples)"
        ),
        f"{sum(bound.rate_per_group):.2f} nats/image of rate in {len(bound.rate_per_group)} latent groups, "
        f"{sum(bound.active_channels)} channels active",
        *_quality(bound),
    ]


def _quality(bound: Evaluation) -> list[str]:
    if bound.ssim is None:
        return []
    psnr = "exact" if bound.psnr_db is None else f"PSNR {bound.psnr_db:.2f} dB"
    return [f"reconstructions: {psnr}, SSIM {bound.ssim:.4f}"]


def _code_lines(codes: CodeEvaluation, bound: Evaluation, images: str) -> list[str]:
    quality = "exact" if codes.psnr_db is None else f"PSNR {codes.psnr_db:.2f} dB"
    quality += "" if bound.ssim is None else f", SSIM {bound.ssim:.4f}"
    images = f"({images})"
    if bound.density:
        lines = [f"{quality}, distortion {bound.distortion:.4f} nats/dim  {images}"]
    else:
        lines = [f"{quality}, error {bound.distortion:.5f} per dimension  {images}"]
    rates = {"with all codes equally likely": codes.uniform_bits_per_image}
    if codes.prior_bits_per_image is not None:
        rates["under the trained priors"] = codes.prior_bits_per_image
    for how, bits in rates.items():
        per_dim = bits / (codes.dims or 1)
        whole = f"; {per_dim + bound.distortion / math.log(2):.4f} bits/dim with the distortion"
        lines.append(f"{bits:,.1f} bits/image, {per_dim:.4f} bits/dim  {how}{whole if bound.density else ''}")
    return lines + _cost_lines(codes)


def _level_lines(codes: CodeEvaluation, images: str) -> list[str]:
    """Codes alone, in bits and nats per image."""
    uniform, bits, nats = codes.uniform_bits_per_image, codes.prior_bits_per_image, codes.prior_nats_per_image
    lines = [f"{uniform:,.1f} bits/image  with all codes equally likely  ({images})"]
    if bits is not None and nats is not None:
        lines.append(f"{bits:,.1f} bits/image, {nats:,.2f} nats/image  under the trained priors")
    return lines + _cost_lines(codes)


def _cost_lines(codes: CodeEvaluation) -> list[str]:
    lines = []
    for level in codes.levels:
        used = f"{level.usage.used:.1%} used, perplexity {level.usage.perplexity:.1f}"
        nats = level.prior_nats_per_code
        cost = "no trained prior" if nats is None else f"{nats:.4f} nats/code"
        if nats is not None:
            cost += f", {nats / math.log(2):.4f} bits/code under its prior"
        lines.append(f"{level.level.name}: {level.level}; {used}; {cost}")
    return lines
