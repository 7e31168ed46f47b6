"""`hvdsl reconstruct RUN`: images as the first latent groups know them, at several depths, or with holes painted in."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from hvdsl.cli.options.images import add_image_output, image_output
from hvdsl.cli.options.runs import add_given, add_machine, add_run, add_split, machine, opened
from hvdsl.cli.options.shared import add_batch, add_data, add_set, path, positive_int, temperature
from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_set(parser)
    parser.add_argument(
        "-n", "--number", metavar="N", type=positive_int, help="how many images (default: 8 on a page, else all)"
    )
    parser.add_argument("--depths", metavar="D", type=positive_int, help="how many depths on a page (default 5)")
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=temperature,
        help="temperature of the groups that are not kept (default 0.1)",
    )
    parser.add_argument(
        "--mask",
        metavar="FILE",
        type=path,
        help="in-paint: a picture of the images' size, black where pixels are kept; the rest comes from the latents "
        "that best explain the kept pixels",
    )
    parser.add_argument(
        "--steps", metavar="N", type=positive_int, help="with --mask: updates of the latents (default 100)"
    )
    add_given(parser, what="conditions of the images, instead of their own")
    add_split(parser, "test")
    add_image_output(parser, "what to write (default: RUN/pictures/reconstructions.png, with several depths)")
    add_batch(parser)
    add_data(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.generate import depths
    from hvdsl.runtime.inference.image_files import labelled_rows, save_png, write_images
    from hvdsl.runtime.protocol import as_vae
    from hvdsl.workflows.conditions import stored_images
    from hvdsl.workflows.images import read_mask
    from hvdsl.workflows.reconstruct import INPAINTING_STEPS
    from hvdsl.workflows.runs import spread_indices, used_images
    from hvdsl.workflows.trained import Trained

    _check(args)
    with machine(args):
        model = opened(args)
        trained, data = Trained(model), model.spec.model.settings.data
        output = image_output(args.output, model, "reconstructions.png" if args.mask is None else "painted.png")
        chosen = used_images(trained.run, data, args.data, args.split)
        groups, page = len(as_vae(trained.model).LATENTS), output.form == ".png"
        if args.depths and not page:
            raise UsageError("--depths is of a page (`-o FILE.png`): elsewhere images are reconstructed by all groups")
        places = spread_indices(chosen, args.number or (8 if page else len(chosen)))
        changed = dict(args.given)
        images, fields = stored_images(trained.model, chosen, places, changed)
        reconstruct = partial(
            trained.reconstruct, images, batch=args.batch or 64, seed=args.seed or 0, given={**fields, **changed}
        )
        if args.mask is None:
            keep = depths(groups, args.depths or (5 if page else 1))
            results = [reconstruct(keep=kept, temperature=args.temperature) for kept in keep]
            rows = [images, *results]
            labels = ["images", *(f"{kept} of {groups} groups" for kept in keep)]
        else:
            hole = read_mask(args.mask, data.shape[1:])
            results = [reconstruct(mask=args.mask, steps=args.steps or INPAINTING_STEPS)]
            rows = [images.masked_fill(hole, 0), *results, images]
            labels = ["what stays", "painted in", "images"]
    if page:
        save_png(labelled_rows(rows, labels, pixel_bits(data)), output.path)
        written = f"{len(images)}"
    else:
        written = write_images(output, results[-1], data, chosen.names(places))
    print(f"wrote {output.path}: {written} of {chosen.name}", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if args.mask is not None and (args.depths or args.temperature is not None):
        raise UsageError("--mask paints in by the latents of all groups: leave out --depths and --temperature")
    if args.steps and args.mask is None:
        raise UsageError("--steps are those of in-painting: say where with `--mask FILE`")
