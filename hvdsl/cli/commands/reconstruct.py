"""`hvdsl reconstruct RUN`: images as the first latent groups know them, at several depths of the hierarchy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options import add_data, add_machine, add_output, add_set, positive, temperature
from hvdsl.cli.run_options import add_run
from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument("-n", "--number", metavar="N", type=positive, default=8, help="how many images (default 8)")
    parser.add_argument("--depths", metavar="D", type=positive, default=5, help="how many depths (default 5)")
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=temperature,
        help="of the groups that are not kept (default 0.1)",
    )
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="which images (default test)"
    )
    add_output(parser, "the PNG to write (default: RUN/pictures/reconstructions.png)")
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    import numpy as np
    import torch

    from hvdsl.cli.runs import open_trained
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.pictures import labelled_rows, save_png
    from hvdsl.runtime.inference.reconstruct import TEMPERATURE, depths, reconstruct
    from hvdsl.runtime.protocol import as_vae, is_quantized

    trained = open_trained(args, lambda settings: settings.evaluate.use_ema)
    if args.temperature is not None and is_quantized(trained.module):
        raise UsageError("--temperature is of groups that are drawn; codes that are not kept take their mean")
    data = getattr(trained.splits(), args.split)
    # Spread over the data, so that the images differ.
    chosen = np.linspace(0, len(data) - 1, min(args.number, len(data))).astype(int).tolist()
    pixels = torch.from_numpy(data.batch(chosen).astype(np.float32))
    groups = len(as_vae(trained.module).LATENTS)
    keep = depths(groups, args.depths)
    settings = trained.model.settings
    drawn_at = TEMPERATURE if args.temperature is None else args.temperature
    rows = reconstruct(trained.module, settings.data, pixels, keep, temperature=drawn_at, seed=args.seed or 0)
    labels = ["images", *(f"{kept} of {groups} groups" for kept in keep)]
    output: Path = args.output or trained.run.pictures / "reconstructions.png"
    save_png(labelled_rows([pixels, *rows], labels, pixel_bits(settings.data)), output)
    print(f"wrote {output}", file=sys.stderr)
    return 0
