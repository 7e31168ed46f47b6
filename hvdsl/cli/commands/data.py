"""`hvdsl data PATH [SPEC]`: which files are the data, what is in them, and what a spec should say of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import add_json, add_set, path

if TYPE_CHECKING:
    from hvdsl.compiler.settings import Data
    from hvdsl.runtime.data.survey import Survey

_SHEET = 48  # images on a contact sheet
_AT_ONCE = 64  # images that are held while a folder is written
_LISTED = 12  # rows of a list; the rest is counted


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=path, help="a folder of images, an image, an array or LMDB file")
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a spec, whose `data` says how the images are read")
    add_set(parser)
    # A text, not a Path, which would forget the slash of a folder.
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="also write images as the model will see them: a contact sheet (.png), or a folder (`seen/`) of all "
        "training images",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.output import print_json
    from hvdsl.errors import UsageError
    from hvdsl.render.terminal import Terminal
    from hvdsl.runtime.data import open_splits
    from hvdsl.runtime.data.open import of_other_images
    from hvdsl.runtime.data.survey import suggested_lines, survey
    from hvdsl.runtime.inference.image_files import ImageOutput
    from hvdsl.workflows.compiling import checked
    from hvdsl.workflows.conditions import check_fields

    output = None if args.output is None else ImageOutput.of(args.output)
    if output is not None and output.form not in (".png", "folder"):
        raise UsageError(f"images are not written as `{args.output}` here: give a .png (a contact sheet), or a folder")
    if args.overrides and args.spec is None:
        raise UsageError("--set changes a spec, and none is given: `hvdsl data PATH SPEC --set …`")
    model = None if args.spec is None else checked(args.spec, args.overrides)
    settings = None if model is None else model.settings.data
    if settings is not None and (others := of_other_images(settings)) is not settings:
        print(f"`data {settings.name}` of {args.spec} ships: to train on these, write `data images`", file=sys.stderr)
        settings = others
    contents = survey(args.path, settings)
    if args.json:
        print_json(_as_json(contents))
    else:
        notes = contents.notes if model is None else ()  # with a spec, opening the data tells them
        Terminal(sys.stdout).lines(_text(contents, notes))
        print("\n".join(["", "data images {", *(f"  {line}" for line in suggested_lines(contents)), "}"]))
    splits = None
    if model is not None and settings is not None:
        splits = open_splits(settings, args.path)
        fields = check_fields(model, splits)
        parts = ", ".join(f"{len(getattr(splits, part)):,} {part}" for part in ("train", "validation", "test"))
        print(f"fits {args.spec}: {parts}" + (f"\nfields: {fields}" if fields else ""), file=sys.stderr)
    if output is not None:
        (_sheet if output.form == ".png" else _folder)(contents, settings or contents.suggested, output.path)
    return 0


def _folder(survey: Survey, settings: Data, path: Path) -> None:
    import torch

    from hvdsl.runtime.data.survey import training_images
    from hvdsl.runtime.inference.image_files import ImageFolder, file_names
    from hvdsl.runtime.inference.inference import chunks

    images = training_images(survey, settings, augmented=False)
    folder = ImageFolder(path, settings, file_names(images.names(range(len(images))), len(images)))
    for indices in chunks(range(len(images)), _AT_ONCE):
        folder.write(indices, torch.from_numpy(images.batch(indices)))
    print(f"wrote {path}: {folder.what(len(images))}", file=sys.stderr)


def _sheet(survey: Survey, settings: Data, path: Path) -> None:
    import numpy as np
    import torch

    from hvdsl.runtime.data.survey import training_images
    from hvdsl.runtime.ground.pixels import pixel_bits
    from hvdsl.runtime.inference.image_files import grid, save_png

    images = training_images(survey, settings, augmented=True)
    indices = np.unique(np.linspace(0, len(images) - 1, min(_SHEET, len(images))).astype(int)).tolist()
    names, pixels = images.names(indices), images.batch(indices)
    values = torch.from_numpy(pixels.astype(np.float32))
    save_png(grid(values, pixel_bits(settings)), path)
    print(f"wrote {path}: {_images(len(names))}, from {names[0]} to {names[-1]}", file=sys.stderr)


def _text(survey: Survey, notes: Sequence[str]) -> list[str]:
    lines = [survey.summary, _sizes(survey)]
    for name, kind in survey.kinds.items():
        more = [f"{kind.constant:,} of a single value"] if kind.constant else []
        more += [f"{kind.clear:,} not opaque"] if kind.clear else []
        more += [f"{kind.deep:,} with more than 8 bits per colour (`bits` above 8 reads them)"] if kind.deep else []
        more += [f"{kind.unfinite:,} with NaN or an infinity, which are refused"] if kind.unfinite else []
        low, high = kind.values
        lines.append(f"{name}: values {low:g} … {high:g} in {_images(kind.images)}" + "".join(f", {m}" for m in more))
    lines += _list("classes", [f"{name}: {count:,}" for name, count in survey.classes.items()])
    lines.append(f"mean {survey.mean:.5g}, deviation {survey.deviation:.5g} as the model sees the images")
    if survey.across:
        lines += _list("the same image in two parts", [f"{a} = {b}" for a, b in survey.across])
    if survey.within:
        many = f"{survey.within:,} images repeat" if survey.within > 1 else "1 image repeats"
        lines.append(f"{many} another of the same part")
    if not survey.compared:
        lines.append("too much to compare all images: some that are the same may not have been found")
    lines += notes
    lines += _list("left out", [f"{name}: {reason}" for name, reason in survey.left_out])
    return lines


def _sizes(survey: Survey) -> str:
    rows = [f"{c}x{h}x{w}: {n:,}" for (h, w, c), n in survey.sizes.items()]
    if len(rows) <= 3:
        return f"sizes: {', '.join(rows)}"
    heights, widths = [size[0] for size in survey.sizes], [size[1] for size in survey.sizes]
    ranges = f"heights {min(heights)} … {max(heights)}, widths {min(widths)} … {max(widths)}"
    return f"{len(rows):,} sizes, {ranges}; most often {', '.join(rows[:3])}"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _list(title: str, rows: list[str]) -> list[str]:
    if not rows:
        return []
    if len(rows) <= 3:
        return [f"{title}: {', '.join(rows)}"]
    more = [f"  … and {len(rows) - _LISTED:,} more"] if len(rows) > _LISTED else []
    return [f"{title}:", *(f"  {row}" for row in rows[:_LISTED]), *more]


def _as_json(survey: Survey) -> dict[str, object]:
    from hvdsl.runtime.data.survey import suggested_lines

    return {
        "summary": survey.summary,
        "parts": dict(survey.parts),
        "sizes": [{"channels": c, "height": h, "width": w, "images": n} for (h, w, c), n in survey.sizes.items()],
        "kinds": {
            name: {
                "images": k.images,
                "values": k.values,
                "constant": k.constant,
                "not_opaque": k.clear,
                "deeper_than_8_bits": k.deep,
                "not_finite": k.unfinite,
            }
            for name, k in survey.kinds.items()
        },
        "classes": dict(survey.classes),
        "mean": survey.mean,
        "deviation": survey.deviation,
        "decoded": survey.decoded,
        "duplicates": {"across": list(survey.across), "within": survey.within, "all_compared": survey.compared},
        "notes": list(survey.notes),
        "left_out": [{"name": name, "reason": reason} for name, reason in survey.left_out],
        "lines": suggested_lines(survey),
    }
