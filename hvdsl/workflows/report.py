"""Runs as one page: their logs, what their models draw, how their specs differ."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from hvdsl.compiler.model import Model
from hvdsl.errors import HvdslError, UsageError
from hvdsl.report.page import Figure, RunReport, page
from hvdsl.report.records import read_records
from hvdsl.runtime.ground.disk import read_json, write_output
from hvdsl.runtime.ground.metric_names import METRICS
from hvdsl.runtime.ground.pixels import pixel_bits
from hvdsl.runtime.inference.generate import depths, reconstruct
from hvdsl.runtime.inference.image_files import labelled_rows
from hvdsl.runtime.latents.conditions import conditions_of
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.folder.logs import ENVIRONMENT
from hvdsl.runtime.training.folder.run import Run
from hvdsl.workflows.calls import showing
from hvdsl.workflows.conditions import stored_images
from hvdsl.workflows.open import CheckpointName, Opened, open_model
from hvdsl.workflows.overview import RunOverview, holds_priors_alone, overview, prior_runs
from hvdsl.workflows.runs import open_run, read_model, spread_indices, used_images
from hvdsl.workflows.sample import SampleOptions, draw_samples

T = TypeVar("T")

MOST_RUNS = 24
LARGEST_TEXT = 1 << 20  # bytes of a spec or a description that are read
LARGEST_PNG = 150_000  # bytes; a larger picture is a JPEG
COLUMNS, DEPTHS = 8, 6
WIDEST = 1_600  # columns of a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What stands in a report.

    Attributes:
        pictures: Whether models are opened, to sample and to reconstruct.
        temperatures: Of the rows of samples.
    """

    pictures: bool = True
    temperatures: tuple[float, ...] = (0.7, 0.85, 1.0)
    checkpoint: CheckpointName = "last"
    device: str = "auto"
    seed: int = 0


def write_report(
    runs: Sequence[Path], output: Path, options: ReportOptions | None = None, console: Console | None = None
) -> Path:
    """Write the page; what of a run cannot be read is told in it.

    Raises:
        UsageError: There are more runs than one can tell apart, or `output` is no name of a page.
        HvdslError: A folder is no run, or the page cannot be written.
    """
    options = options or ReportOptions()
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"a report cannot be written as `{output}`: give a file that ends in .html")
    runs = [run for path in runs for run in (prior_runs(path) if holds_priors_alone(path) else [path])]
    if not 1 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"{len(runs)} runs on one page cannot be told apart: name 1 to {MOST_RUNS}")
    names = _names(runs)
    with showing("runs", console) as show:
        reports = []
        for i, (path, name) in enumerate(zip(runs, names, strict=True)):
            show(i, len(runs), name)
            reports.append(_report(open_run(path), name, options))
    title = reports[0].name if len(reports) == 1 else f"{len(reports)} runs: {', '.join(names)}"
    return write_output(output, page(title, reports))


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' own names, as much of their paths as tells them apart."""
    parts = [path.resolve().parts for path in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len({*parts}):
            break
    return [f"{name} ({i + 1})" if name in names[:i] else name for i, name in enumerate(names)]


def _report(run: Run, name: str, options: ReportOptions) -> RunReport:
    notes: list[str] = []
    records = read_records(run.metrics_path)
    if records.unreadable:
        notes.append(f"{records.unreadable:,} lines of metrics.jsonl are no records and were left out")
    for step in records.stalls:
        file = run.folder / f"stalled-{step}.json"
        about = f": {file.name} tells what was not finite" if file.is_file() else ""
        notes.append(f"training stalled at step {step:,}, since too many updates were skipped{about}")
    if records.unknown:
        notes.append(f"{records.unknown:,} measurements have names that this version does not know")
    spec = _read(lambda: _text(run.folder / "resolved.hv"), notes)
    model = _read(lambda: read_model(run), notes) if spec else None
    environment = _read(lambda: _environment(run), notes)
    state = overview(run.folder, name, records)
    if state.problem:
        notes.append(state.problem)
    return RunReport(
        name=name,
        facts=_facts(state, model),
        records=records,
        groups=[] if model is None else _resolutions(model),
        spec=spec or "",
        environment=environment or [],
        figures=_figures(run, options) if options.pictures and model is not None else [],
        notes=notes,
    )


def _read(read: Callable[[], T], notes: list[str]) -> T | None:
    """What is read, or a note of why it cannot be."""
    try:
        return read()
    except HvdslError as error:
        notes.append(str(error))
        return None


def _text(path: Path) -> str:
    if not path.is_file():
        raise HvdslError(f"there is no {path.name}")
    if path.stat().st_size > LARGEST_TEXT:
        raise HvdslError(f"{path.name} has {path.stat().st_size:,} bytes, which is no text of ours")
    return path.read_text(encoding="utf-8", errors="replace")


def _environment(run: Run) -> list[tuple[str, str]]:
    _text(run.folder / ENVIRONMENT)
    noted = read_json(run.folder / ENVIRONMENT)
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in list(noted.items())[:60]]


def _facts(state: RunOverview, model: Model | None) -> list[tuple[str, str]]:
    train = None if model is None else model.settings.train
    whole = state.steps if train is None or state.steps is not None else train.steps
    steps = f"{state.step:,}" if whole is None else f"{state.step:,} of {whole:,}"
    facts = [("state", state.state), ("step", steps)]
    if state.judged_by is not None:
        unit = METRICS[state.judged_by].heading
        best = "–" if state.best is None else f"{state.best:.4f} at step {state.best_step:,}"
        facts += [(f"best validation, {unit}", best), (f"training, {unit}", _number(state.last))]
    if model is not None:
        groups, parameters = len(model.graph.latents), model.graph.parameter_count()
        facts += [("model", model.settings.title or model.settings.model), ("latent groups", str(groups))]
        facts.append(("parameters", f"{parameters:,}"))
    return facts


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _resolutions(model: Model) -> list[str]:
    return [f"{latent.shape[1]}x{latent.shape[2]}" for latent in model.graph.latents]


def _figures(run: Run, options: ReportOptions) -> list[Figure]:
    """Samples at several temperatures, and reconstructions from the first groups; else why there are none."""
    try:
        opened = open_model(run, options.checkpoint, True, (), options.device)
    except HvdslError as error:
        return [Figure(f"no pictures: {error}")]
    at = f"step {opened.step:,}"
    ways: dict[str, Callable[[Opened, ReportOptions], Image.Image]] = {
        f"Samples at several temperatures, {at}": _samples,
        f"Reconstructions from the first latent groups, {at}": _reconstructions,
    }
    figures = []
    for caption, draw_page in ways.items():
        try:
            figures.append(Figure(caption, _encoded(draw_page(opened, options))))
        except HvdslError as error:
            figures.append(Figure(f"{caption}: none, since {error}"))
    return figures


def _samples(opened: Opened, options: ReportOptions) -> Image.Image:
    rows, conditions = [], {condition.name for condition in conditions_of(opened.module)}
    fields = _validation(opened)[1] if conditions else {}
    given = tuple((name, value) for name, value in fields.items() if name in conditions)
    for temperature in options.temperatures:
        wanted = SampleOptions(n=COLUMNS, temperature=(("", temperature),), seed=options.seed, given=given)
        rows.append(draw_samples(opened, wanted).float())
    return _page(opened, rows, [f"temperature {t:g}" for t in options.temperatures])


def _validation(opened: Opened) -> tuple[Tensor, dict[str, Tensor]]:
    """Some validation images, raw pixel values, and the fields that the model needs with them."""
    images = used_images(opened.run, opened.spec.model.settings.data, default="validation")
    pixels, fields = stored_images(opened.module, images, spread_indices(images, COLUMNS))
    return pixels.to(torch.float32), fields


def _reconstructions(opened: Opened, options: ReportOptions) -> Image.Image:
    data, groups = opened.spec.model.settings.data, len(as_vae(opened.module).LATENTS)
    pixels, fields = _validation(opened)
    keep = depths(groups, DEPTHS)
    rows = reconstruct(opened.module, data, pixels, keep, seed=options.seed, given=fields)
    return _page(opened, [pixels, *rows], ["original", *(f"{k} of {groups} groups" for k in keep)])


def _page(opened: Opened, rows: Sequence[Tensor], labels: Sequence[str]) -> Image.Image:
    return labelled_rows(rows, labels, pixel_bits(opened.spec.model.settings.data))


def _encoded(picture: Image.Image) -> bytes:
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    if content.tell() > LARGEST_PNG:
        content = io.BytesIO()
        picture.convert("RGB").save(content, format="JPEG", quality=88)
    return content.getvalue()
