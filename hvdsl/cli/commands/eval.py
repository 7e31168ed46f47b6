"""`hvdsl eval RUN`: bits per dimension, rate and distortion."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from hvdsl.cli.options import add_batch, add_data, add_json, add_machine, add_output, add_set, positive
from hvdsl.cli.run_options import add_run

if TYPE_CHECKING:
    from hvdsl.cli.runs import Trained
    from hvdsl.runtime.data import Dataset, Splits
    from hvdsl.runtime.inference.evaluate import Evaluation
    from hvdsl.runtime.priors.evaluate import CodeEvaluation


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
    parser.add_argument(
        "--baselines", action="store_true", help="also say what PNG and a histogram need for the same images"
    )
    add_json(parser)
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.runs import open_trained
    from hvdsl.cli.showing import showing
    from hvdsl.compiler.stages import is_drawn_from_codes
    from hvdsl.runtime.inference.evaluate import evaluate

    trained = open_trained(args, lambda settings: settings.evaluate.use_ema)
    splits = trained.splits()
    data = getattr(splits, args.split)
    samples = args.samples or trained.model.settings.evaluate.samples
    with showing("images") as show:
        result = evaluate(
            trained.module,
            data,
            samples=samples,
            batch=args.batch or 64,
            seed=args.seed or 0,
            progress=lambda done: show(done, len(data)),
        )
    codes = _codes(trained, data, args) if is_drawn_from_codes(trained.model) else None
    baselines = _baselines(trained, splits, data) if args.baselines else {}
    if args.json:
        told = result.as_json() | {"split": args.split, "step": trained.step} | baselines
        print(json.dumps(told | (codes.as_json() if codes else {}), indent=2))
    else:
        print(_code_table(codes, result, args.split) if codes else _table(result, args.split))
        for name, bits in baselines.items():
            print(f"{bits:.4f} bits/dim  by {name.removesuffix('_bits_per_dim')}" if bits is not None else f"no {name}")
    if args.output is not None:
        _draw(result, trained, args)
    return 0


def _baselines(trained: Trained, splits: Splits, data: Dataset) -> dict[str, float | None]:
    from hvdsl.cli.baselines import histogram_bits_per_dim, png_bits_per_dim
    from hvdsl.runtime.ground.pixels import pixel_bits

    levels = 2 ** pixel_bits(trained.model.settings.data)
    return {
        "png_bits_per_dim": png_bits_per_dim(data),
        "histogram_bits_per_dim": histogram_bits_per_dim(splits.train, data, levels),
    }


def _codes(trained: Trained, data: Dataset, args: argparse.Namespace) -> CodeEvaluation:
    from hvdsl.cli.showing import showing
    from hvdsl.cli.stages import autoencoder, open_priors
    from hvdsl.runtime.priors.evaluate import evaluate_codes

    first = autoencoder(trained.run, trained.model, trained.module, trained.step, args.overrides)
    levels = [level.name for level in first.levels]
    priors = open_priors(first, levels, lambda settings: args.use_ema and settings.evaluate.use_ema)
    with showing("codes") as show:
        return evaluate_codes(
            trained.module,
            priors,
            trained.model.settings.data,
            data,
            batch=args.batch or 64,
            progress=lambda done: show(done, len(data)),
        )


def _code_table(codes: CodeEvaluation, result: Evaluation, split: str) -> str:
    quality = "exact" if codes.psnr_db is None else f"PSNR {codes.psnr_db:.2f} dB"
    images = f"({codes.images:,} {split} images)"
    if result.density:
        lines = [f"{quality}, distortion {result.distortion:.4f} nats/dim  {images}"]
    else:
        lines = [f"{quality}, error {result.distortion:.5f} per dimension  {images}"]
    rates = {"with all codes equally likely": codes.uniform_bits_per_image}
    if codes.prior_bits_per_image is not None:
        rates["under the trained priors"] = codes.prior_bits_per_image
    for how, bits in rates.items():
        per_dim = bits / codes.dims
        whole = f"; {per_dim + result.distortion / math.log(2):.4f} bits/dim with the distortion"
        lines.append(f"{bits:,.1f} bits/image, {per_dim:.4f} bits/dim  {how}{whole if result.density else ''}")
    for level in codes.levels:
        used = f"{level.usage.used:.1%} used, perplexity {level.usage.perplexity:.1f}"
        nats = level.prior_nats_per_code
        cost = "no trained prior" if nats is None else f"{nats:.4f} nats/code under its prior"
        lines.append(f"{level.level.name}: {level.level}; {used}; {cost}")
    return "\n".join(lines)


def _table(result: Evaluation, split: str) -> str:
    if not result.density:
        bits = result.as_metrics()["rate_bits_per_image"]
        return "\n".join(
            (
                f"{result.distortion:.6f} error per value  ({result.images:,} {split} images)",
                f"{bits:,.1f} bits per image, {result.bits_per_dim:.4f} bits/dim, in codes of uniform priors",
            )
        )
    return "\n".join(
        (
            f"{result.bits_per_dim:.4f} bits/dim  (± {result.standard_error:.4f}, {result.images:,} {split} images)",
            f"{result.nats_per_dim:.4f} nats/dim, {result.nats_per_image:.2f} nats/image  "
            + (
                f"= distortion {result.distortion:.4f} + rate {result.rate:.4f} nats/dim"
                if result.samples == 1
                else f"(importance-weighted, {result.samples} samples)"
            ),
            f"{sum(result.rate_per_group):.2f} nats/image of rate in {len(result.rate_per_group)} latent groups, "
            f"{sum(result.active_channels)} channels active",
        )
    )


def _draw(result: Evaluation, trained: Trained, args: argparse.Namespace) -> None:
    from hvdsl.runtime.inference.pictures import rate_bars, save_png
    from hvdsl.runtime.protocol import as_vae

    labels = [f"{group.name} {'x'.join(map(str, group.shape))}" for group in as_vae(trained.module).LATENTS]
    title = f"Rate of each latent group, {trained.model.settings.title or trained.model.settings.model}"
    save_png(rate_bars(result.rate_per_group, labels, title), args.output)
