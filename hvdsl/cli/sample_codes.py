"""`hvdsl sample` of a discrete hierarchy: codes from the trained priors, level by level, then pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hvdsl.cli.code_options import per_level
from hvdsl.cli.showing import Show, showing
from hvdsl.cli.stages import Autoencoder, open_priors, with_steps
from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.codes.codec import decode
from hvdsl.runtime.codes.files import read_codes
from hvdsl.runtime.codes.levels import LABEL, CodesError
from hvdsl.runtime.inference.inference import chunks
from hvdsl.runtime.priors.hierarchy import Cut, Kept, coarse_mask, sample_codes
from hvdsl.runtime.priors.sampling import Progress


def draw_images(args: argparse.Namespace, first: Autoencoder) -> Tensor:
    """Return raw pixel values `(N, C, H, W)` of `args.number` images.

    Raises:
        HvdslError: a prior is missing, of other codes, or given what does not fit.
    """
    levels = {level.name: level for level in first.levels}
    labels = _labels(args, first)
    fixed = _fixed(args, first)
    drawn = [name for name in levels if name not in fixed]
    priors = with_steps(first, open_priors(first, drawn, lambda settings: args.use_ema and settings.sample.use_ema))
    untrained = [name for name in levels if name not in priors and name not in fixed]
    if untrained:
        raise HvdslError(_untrained(first, untrained))
    if labels is not None and not any(map.name == LABEL for p in priors.values() for map in p.model.CONDITIONS):
        raise UsageError("--label: none of the levels that are drawn has a prior that is given the class")
    kept = _kept(args, first)
    _check_drawn(args, list(levels), drawn)
    cuts = _cuts(args, list(levels), first.model.settings.sample.temperature)
    schedules = per_level(args.schedule, list(levels), "--schedule")
    images = []
    for indices in chunks(range(args.number), args.batch or 64):
        with showing("codes") as show:
            codes = sample_codes(
                priors,
                indices,
                seed=args.seed or 0,
                cuts=cuts,
                fixed={name: tensor[indices.start : indices.stop] for name, tensor in fixed.items()},
                kept={name: _some(k, indices) for name, k in kept.items()},
                labels=None if labels is None else labels[indices.start : indices.stop],
                schedules=schedules,
                progress=_telling(show, indices),
            )
        images.append(decode(first.module, first.model.settings.data, codes, batch=len(indices)).round())
    return torch.cat(images)


def _check_drawn(args: argparse.Namespace, names: Sequence[str], drawn: Sequence[str]) -> None:
    """Refuse to say how codes are drawn that are not drawn."""
    for option in ("temperature", "top_k", "top_p", "schedule"):
        asked = {level for level, _ in getattr(args, option)}
        fixed = [name for name in names if name in asked and name not in drawn]
        if fixed or (asked and not drawn):
            what = f"the codes of `{fixed[0]}`" if fixed else "all codes"
            raise UsageError(
                f"--{option.replace('_', '-')}: {what} are taken from a file (`--fix`), and nothing is drawn that it "
                "could change"
            )


def _cuts(args: argparse.Namespace, names: Sequence[str], temperature: float) -> dict[str, Cut]:
    temperatures = per_level(args.temperature, names, "--temperature")
    top_k = per_level(args.top_k, names, "--top-k")
    top_p = per_level(args.top_p, names, "--top-p")
    return {n: Cut(temperatures.get(n, temperature), top_k.get(n), top_p.get(n, 1.0)) for n in names}


def _fixed(args: argparse.Namespace, first: Autoencoder) -> dict[str, Tensor]:
    levels, fixed = {level.name: level for level in first.levels}, {}
    for text in args.fix:
        name, equals, path = text.partition("=")
        if not equals or name not in levels:
            raise UsageError(f"--fix {text}: write LEVEL=FILE, where LEVEL is one of {', '.join(levels)}")
        fixed[name] = _number(read_codes(Path(path), [levels[name]], first.digest)[name], args.number, path)
    return fixed


def _kept(args: argparse.Namespace, first: Autoencoder) -> dict[str, Kept]:
    if (args.keep is None) != (args.mask is None):
        raise UsageError("--mask says what to draw anew and --keep what stands elsewhere: give both")
    if args.keep is None:
        return {}
    drawn = _mask(args.mask, first.model.settings.data.shape[1:])
    kept = {}
    for level, codes in zip(first.levels, read_codes(args.keep, first.levels, first.digest).values(), strict=True):
        codes = _number(codes, args.number, args.keep)
        height, width = level.code_map.grid or (1, 1)
        kept[level.name] = Kept(codes, coarse_mask(drawn, (height, width)).expand(len(codes), -1, -1))
    return kept


def _mask(path: Path, size: tuple[int, int]) -> Tensor:
    try:
        with Image.open(path) as picture:
            found = np.asarray(picture.convert("L")) > 0
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise HvdslError(f"the mask {path} cannot be read as a picture ({error})") from error
    if found.shape != size:
        raise HvdslError(
            f"the mask {path} is {found.shape[0]}x{found.shape[1]}; the images are {size[0]}x{size[1]}: resize it"
        )
    return torch.from_numpy(found)


def _number(codes: Tensor, number: int, source: str | Path) -> Tensor:
    """Return `number` images' codes: the first of them, or one image's repeated."""
    if len(codes) == 1:
        return codes.expand(number, *codes.shape[1:])
    if len(codes) < number:
        raise CodesError(f"{source} has the codes of {len(codes)} images, not {number}: ask for `-n {len(codes)}`")
    return codes[:number]


def _labels(args: argparse.Namespace, first: Autoencoder) -> Tensor | None:
    if args.label is None:
        return None
    classes = first.model.settings.data.classes
    if classes is None:
        raise UsageError("--label: this model's data has no classes")
    words = args.label.split(",")
    labels = [int(word) for word in words if word.isdecimal()]
    if len(labels) < len(words) or not all(label < classes for label in labels):
        raise UsageError(f"--label {args.label}: classes are whole numbers from 0 to {classes - 1}")
    return torch.tensor([labels[i % len(labels)] for i in range(args.number)])


def _some(kept: Kept, indices: range) -> Kept:
    return Kept(kept.codes[indices.start : indices.stop], kept.mask[indices.start : indices.stop])


def _telling(show: Show, indices: range) -> Callable[[str, Progress], None]:
    images = f"images {indices.start + 1} to {indices.stop}"
    return lambda level, progress: show(progress.done, progress.total, f"codes of {level}, {images}")


def _untrained(first: Autoencoder, names: list[str]) -> str:
    told = ", ".join(f"`{name}`" for name in names)
    reason = f"{told} of {first.run.folder} has no trained prior, and codes drawn uniformly are no pictures: "
    stated = [name for name in names if name in first.model.priors]
    if stated == names:
        return f"{reason}train with `hvdsl train --resume --out {first.run.folder} --stage all`"
    return f"{reason}add `prior {next(n for n in names if n not in stated)}` to the spec and train it with `--stage`"
