"""Images from a model: from its latents' own priors, or from codes of trained priors, level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from hvdsl.compiler.model import is_drawn_from_codes
from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.codes.files import read_codes
from hvdsl.runtime.codes.levels import LABEL, CodesError, check_fit, decode_codes
from hvdsl.runtime.ground.pixels import as_mean
from hvdsl.runtime.inference.generate import check_guidance, completed, sample_batch
from hvdsl.runtime.inference.inference import chunks, some
from hvdsl.runtime.inference.recalibrate import recalibrate_batch_norm
from hvdsl.runtime.latents import LatentGroup
from hvdsl.runtime.latents.conditions import Rows, absent, conditions_of
from hvdsl.runtime.latents.group import default_temperatures
from hvdsl.runtime.priors.hierarchy import Cut, KeptCodes, coarse_mask, sample_codes
from hvdsl.runtime.priors.protocol import StepwisePrior, field_names
from hvdsl.runtime.priors.sampling import Progress, Schedule
from hvdsl.runtime.protocol import as_vae
from hvdsl.workflows.calls import Show, showing
from hvdsl.workflows.conditions import GivenValue, rows_of, runtime_condition
from hvdsl.workflows.groups import at_resolution, group_names, select_groups
from hvdsl.workflows.images import as_pixels, read_mask
from hvdsl.workflows.latent_files import read_latents
from hvdsl.workflows.latents import given_value
from hvdsl.workflows.open import Opened, first_stage, sampling_weights
from hvdsl.workflows.runs import class_names
from hvdsl.workflows.stages import Autoencoder, PriorsAlone, open_priors, with_steps

Value = TypeVar("Value")
PerLevel = tuple[tuple[str, Value], ...]  # values by level; "" is every level, and the later is taken over the earlier
CodesOf = Path | Mapping[str, Tensor]  # a file as `hvdsl codes` writes it, or the codes `(N, …)` by level


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """How images are drawn; see `Trained.sample` for each."""

    n: int
    temperature: PerLevel[float] = ()
    recalibrate: int | None = None
    mean: bool = False
    batch: int = 64
    seed: int = 0
    top_k: PerLevel[int] = ()
    top_p: PerLevel[float] = ()
    label: tuple[int, ...] = ()
    fix: tuple[tuple[str, Path | Tensor], ...] = ()
    keep: CodesOf | None = None
    mask: Path | NDArray[np.bool_] | None = None
    schedule: PerLevel[Schedule] = ()
    given: tuple[tuple[str, GivenValue], ...] = ()
    guidance: float | None = None

    @property
    def conditions(self) -> dict[str, GivenValue]:
        """What is given by name, `label` among it."""
        label: dict[str, GivenValue] = {LABEL: self.label} if self.label else {}
        if self.label and any(name == LABEL for name, _ in self.given):
            raise UsageError("--label is short for `--given label=…`: say it once")
        return label | dict(self.given)


def per_name(value: Value | Mapping[str, Value] | None) -> PerLevel[Value]:
    """Return one value for all, or values by name with `"else"` for the others, as `SampleOptions` takes them."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        return (("", value),)
    pairs = [("" if name == "else" else name, each) for name, each in value.items()]
    return tuple(sorted(pairs, key=lambda pair: bool(pair[0])))  # the later is taken over the earlier


def draw_samples(opened: Opened, options: SampleOptions, console: Console | None = None) -> Tensor:
    """Draw images, pixels `(n, C, H, W)` as `Trained.sample` gives them; progress is shown on `console`.

    Raises:
        HvdslError: a prior is missing, or an option does not apply or fit.
    """
    return torch.cat([images for _, images in draw_batches(opened, options, console)])


def draw_batches(
    opened: Opened, options: SampleOptions, console: Console | None = None, *, wanted: Callable[[range], bool] = bool
) -> Iterator[tuple[range, Tensor]]:
    """Draw images batch by batch: their numbers, and their pixels.

    Args:
        wanted: whether the images of these numbers are to be drawn; a batch that is not is passed over.

    Raises:
        HvdslError: as `draw`.
    """
    settings = opened.spec.model.settings
    if opened.spec.model.is_of_codes:
        raise UsageError(f"{PriorsAlone.WITHOUT_IMAGES}; `sample_codes`, or `hvdsl sample -o codes.npz`, draws codes")
    _check_number(options)
    batches = [indices for indices in chunks(range(options.n), options.batch) if wanted(indices)]
    of_codes = is_drawn_from_codes(opened.spec.model)  # whose pictures are means
    if of_codes:
        parts = draw_from_codes(opened, options, batches, console)
    else:
        parts = draw_from_latents(opened, options, batches, console)
    for indices, images in parts:
        yield indices, as_pixels(images, settings.data, mean=options.mean or of_codes)


def _check_number(options: SampleOptions) -> None:
    if options.n < 1:
        raise UsageError(f"{options.n} images are no number of images to draw: ask for 1 or more")


def draw_codes_alone(
    opened: Opened, options: SampleOptions, console: Console | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw codes of all levels, `(n, …)`, and what they are given, as `Trained.sample_codes` gives them.

    Raises:
        HvdslError: as `draw`.
    """
    _check_number(options)
    if not is_drawn_from_codes(opened.spec.model):
        raise UsageError(f"`{opened.spec.model.settings.model}` is no model of codes: `sample` draws images")
    batches = list(chunks(range(options.n), options.batch))
    drawn = list(_drawn_codes(opened, first_stage(opened), options, batches, console))
    codes = {name: torch.cat([each[name].cpu() for _, each, _ in drawn]) for name in drawn[0][1]}
    return codes, {name: torch.cat([each[name] for _, _, each in drawn]) for name in drawn[0][2]}


def draw_from_latents(
    opened: Opened, options: SampleOptions, batches: Sequence[range], console: Console | None = None
) -> Iterator[tuple[range, Tensor]]:
    """Draw batches of images from the latents' own priors: their numbers, and raw pixel values `(N, C, H, W)`.

    Raises:
        HvdslError: an option is only for models of codes, or does not fit.
    """
    of_codes = ("top_k", "top_p", "keep", "mask", "schedule")
    stated = [name for name in of_codes if getattr(options, name) not in ((), None)]
    if stated:
        raise UsageError(
            f"--{stated[0].replace('_', '-')} is for models of codes; this one is drawn from its latents' own priors"
        )
    module, settings = sampling_weights(opened), opened.spec.model.settings
    groups = as_vae(module).LATENTS
    temperature = group_temperatures(
        groups, options.temperature, default_temperatures(groups, settings.sample.temperature)
    )
    names = class_names(opened.run)
    rows = rows_of(conditions_of(module), options.conditions, options.n, settings.data, names, generating=True)
    given = completed(module, rows, 1)
    fixed = _fixed_latents(options, opened)
    passes = settings.sample.recalibrate_batch_norm if options.recalibrate is None else options.recalibrate
    with _own_statistics(module), showing("images", console, done=options.n - sum(map(len, batches))) as show:
        if passes and batches:
            left_out = {c.name: absent(c, 1) for c in conditions_of(module) if c.droppable and options.guidance == 0}
            under = {**given, **left_out}
            recalibrate_batch_norm(module, passes, temperature=temperature, seed=options.seed, given=under)
        for indices in batches:
            images = sample_batch(
                module,
                settings.data,
                indices,
                temperature=temperature,
                seed=options.seed,
                decode="mean" if options.mean else "sample",
                fixed={place: value[indices.start : indices.stop] for place, value in fixed.items()},
                given=some(given, indices),
                guidance=options.guidance,
            )
            yield indices, images
            show(indices.stop, options.n)


def group_temperatures(groups: Sequence[LatentGroup], pairs: PerLevel[float], default: Sequence[float]) -> list[float]:
    """Return the temperature of each latent group: by a place, name or resolution, or "" for all.

    Raises:
        UsageError: there is no such group.
    """
    temperatures = list(default)
    for key, value in pairs:
        if not key:
            temperatures = [value] * len(groups)
            continue
        places = at_resolution(groups, key) or select_groups(groups, key, "--temperature")
        for place in places:
            temperatures[place] = value
    return temperatures


def _fixed_latents(options: SampleOptions, opened: Opened) -> dict[int, Tensor]:
    """The values that some groups keep, `(n, …)`, by their place."""
    groups, fixed = as_vae(opened.module).LATENTS, {}
    for key, value in options.fix:
        for place in select_groups(groups, key, "--fix"):
            name = group_names(groups)[place]
            if isinstance(value, Path):
                source, values = str(value), read_latents(value, opened, [name])[name]
            else:
                source, values = "the given latents", value
            fixed[place] = given_value(groups[place], _number(values, options.n, source))
    return fixed


@contextmanager
def _own_statistics(module: nn.Module) -> Iterator[None]:
    """Put the buffers of a model back afterwards: what is measured for one page of samples is for that page."""
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])


def draw_from_codes(
    opened: Opened, options: SampleOptions, batches: Sequence[range], console: Console | None = None
) -> Iterator[tuple[range, Tensor]]:
    """Draw batches of images from codes of trained priors: their numbers, and raw pixel values `(N, C, H, W)`.

    Raises:
        HvdslError: a prior is missing, of other codes, or given what does not fit.
    """
    first = first_stage(opened)
    data = first.model.settings.data
    for indices, codes, given in _drawn_codes(opened, first, options, batches, console):
        whole = completed(first.module, given, len(indices))
        images = decode_codes(first.module, data, codes, batch=len(indices), given=whole)
        yield indices, as_mean(images, data)


def _drawn_codes(
    opened: Opened, first: Autoencoder, options: SampleOptions, batches: Sequence[range], console: Console | None
) -> Iterator[tuple[range, dict[str, Tensor], dict[str, Tensor]]]:
    """Draw codes of trained priors batch by batch: the images' numbers, codes by level, and what these are given.

    Raises:
        HvdslError: a prior is missing, of other codes, or given what does not fit.
    """
    if options.mean:
        raise UsageError("--mean: the pictures of codes are the likelihood's mean already; leave it out")
    if options.recalibrate:
        raise UsageError("--recalibrate: batch-norm statistics are measured on samples of continuous latents only")
    levels = {level.name: level for level in first.levels}
    given = _given_codes(options, first)
    fixed = _fixed(options, first)
    drawn = [name for name in levels if name not in fixed]
    use_ema = opened.use_ema
    trained = open_priors(first, drawn, lambda settings: use_ema and settings.sample.use_ema, opened.device)
    priors = with_steps(first, trained)
    untrained = [name for name in levels if name not in priors and name not in fixed]
    if untrained:
        raise HvdslError(_untrained(first, untrained))
    given, bare = _told(options, first, given, priors)
    kept = _kept(options, first)
    _check_drawn(options, list(levels), drawn)
    cuts = _cuts(options, list(levels), first.model.settings.sample.temperature)
    schedules = per_level(options.schedule, list(levels), "--schedule")
    for indices in batches:
        with showing("codes", console) as show:
            codes = sample_codes(
                priors,
                indices,
                seed=options.seed,
                cuts=cuts,
                fixed={name: tensor[indices.start : indices.stop] for name, tensor in fixed.items()},
                kept={name: _some(k, indices) for name, k in kept.items()},
                given=some(given, indices),
                without=some(bare, indices),
                guidance=options.guidance,
                schedules=schedules,
                progress=_telling(show, indices),
            )
        yield indices, codes, some(given, indices)


def per_level(pairs: PerLevel[Value], levels: Sequence[str], option: str) -> dict[str, Value]:
    """Return the value of each level that has one; the later is taken over the earlier.

    Raises:
        UsageError: there is no such level.
    """
    values: dict[str, Value] = {}
    for level, value in pairs:
        if level and level not in levels:
            known = f"it has {', '.join(levels)}" if any(levels) else "its latents are continuous"
            raise UsageError(f"{option} {level}={value}: the model has no level `{level}` of codes; {known}")
        values |= dict.fromkeys([level] if level else levels, value)
    return values


def _check_drawn(options: SampleOptions, names: Sequence[str], drawn: Sequence[str]) -> None:
    """Refuse to say how codes are drawn that are not drawn."""
    pairs: dict[str, PerLevel[object]] = {
        "--temperature": options.temperature,
        "--top-k": options.top_k,
        "--top-p": options.top_p,
        "--schedule": options.schedule,
    }
    for option, values in pairs.items():
        stated = {level for level, _ in values}
        fixed = [name for name in names if name in stated and name not in drawn]
        if fixed or (stated and not drawn):
            what = f"the codes of `{fixed[0]}`" if fixed else "all codes"
            raise UsageError(
                f"{option}: {what} are taken from a file (`--fix`), and nothing is drawn that it could change"
            )


def _cuts(options: SampleOptions, names: Sequence[str], temperature: float) -> dict[str, Cut]:
    temperatures = per_level(options.temperature, names, "--temperature")
    top_k = per_level(options.top_k, names, "--top-k")
    top_p = per_level(options.top_p, names, "--top-p")
    return {n: Cut(temperatures.get(n, temperature), top_k.get(n), top_p.get(n, 1.0)) for n in names}


def _fixed(options: SampleOptions, first: Autoencoder) -> dict[str, Tensor]:
    levels, fixed = {level.name: level for level in first.levels}, {}
    for name, codes in options.fix:
        source = codes if isinstance(codes, Path) else "the given codes"
        if name not in levels:
            raise UsageError(f"--fix {name}={source}: write LEVEL=FILE, where LEVEL is one of {', '.join(levels)}")
        if isinstance(codes, Path):
            codes = read_codes(codes, [levels[name]], first.digest)[name]
        else:
            check_fit({name: codes}, [levels[name]], str(source))
        fixed[name] = _number(codes, options.n, source)
    return fixed


def _kept(options: SampleOptions, first: Autoencoder) -> dict[str, KeptCodes]:
    if options.keep is None and options.mask is None:
        return {}
    if options.keep is None or options.mask is None:
        raise UsageError("--mask says what to draw anew and --keep what stands elsewhere: give both")
    if first.model.is_of_codes:
        raise UsageError("--mask is of pixels, and codes from a file have none: `--fix LEVEL=FILE` keeps whole levels")
    drawn = read_mask(options.mask, first.model.settings.data.shape[1:])
    if isinstance(options.keep, Path):
        source, by_level = str(options.keep), read_codes(options.keep, first.levels, first.digest)
    else:
        source, by_level = "what is kept", dict(options.keep)
        check_fit(by_level, first.levels, source)
    kept = {}
    for level in first.levels:
        codes = _number(by_level[level.name], options.n, source)
        height, width = level.code_map.grid or (1, 1)
        kept[level.name] = KeptCodes(codes, coarse_mask(drawn, (height, width)).expand(len(codes), -1, -1))
    return kept


def _number(codes: Tensor, number: int, source: str | Path) -> Tensor:
    """Return `number` images' codes: the first of them, or one image's repeated."""
    if len(codes) == 1:
        return codes.expand(number, *codes.shape[1:])
    if len(codes) < number:
        raise CodesError(f"{source} has the codes of {len(codes)} images, not {number}: ask for `-n {len(codes)}`")
    return codes[:number]


def _given_codes(options: SampleOptions, first: Autoencoder) -> dict[str, Rows]:
    """What priors and the decoder are conditioned on."""
    data = first.model.settings.data
    if options.label and data.classes is None:
        raise UsageError("--label: this model's data has no classes")
    conditions = [runtime_condition(field) for field in data.conditions]
    return rows_of(conditions, options.conditions, options.n, data, class_names(first.run))


def _told(
    options: SampleOptions, first: Autoencoder, given: Mapping[str, Rows], priors: Mapping[str, StepwisePrior]
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """What is given to priors and decoder, with what may be left out and is; and the same without all of that.

    Raises:
        HvdslError: something is missing, not read, or nothing may be left out that guidance could be against.
    """
    known = {field.name: runtime_condition(field) for field in first.model.settings.data.conditions}
    read = {name for prior in priors.values() for name in field_names(prior.model)}
    read |= {condition.name for condition in conditions_of(first.module) if condition.generative}
    unread = next((name for name in given if name not in read), None)
    if unread is not None:
        option = "--label" if unread == LABEL and options.label else f"--given {unread}"
        what = "the class" if unread == LABEL else f"`{unread}`"
        raise UsageError(f"{option}: no prior of the levels that are drawn is given {what}, nor is the decoder")
    conditions = [condition for name, condition in known.items() if name in read]
    whole = dict(given)
    for condition in conditions:
        if condition.name not in whole and not condition.droppable:
            option = "--label" if condition.name == LABEL else f"--given {condition.name}=…"
            raise HvdslError(f"images are drawn given `{condition.name}`: say which with `{option}`")
        whole.setdefault(condition.name, absent(condition, 1))
    if options.guidance is not None:
        check_guidance(conditions, options.guidance)
    bare: dict[str, Rows] = whole | {c.name: absent(c, 1) for c in conditions if c.droppable}
    return whole, bare


def _some(kept: KeptCodes, indices: range) -> KeptCodes:
    return KeptCodes(kept.codes[indices.start : indices.stop], kept.mask[indices.start : indices.stop])


def _telling(show: Show, indices: range) -> Callable[[str, Progress], None]:
    images = f"images {indices.start + 1} to {indices.stop}"
    return lambda level, progress: show(progress.done, progress.total, f"codes of {level}, {images}")


def _untrained(first: Autoencoder, names: list[str]) -> str:
    listed = ", ".join(f"`{name}`" for name in names)
    reason = f"{listed} of {first.run.folder} has no trained prior, and codes drawn uniformly are no pictures: "
    stated = [name for name in names if name in first.model.priors]
    if stated == names:
        return f"{reason}train with `hvdsl train --resume --out {first.run.folder} --stage all`"
    return f"{reason}add `prior {next(n for n in names if n not in stated)}` to the spec and train it with `--stage`"
