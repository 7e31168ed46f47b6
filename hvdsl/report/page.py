"""Runs as one page of HTML that needs nothing else: no script, no font, no address. All text in it is escaped."""

from __future__ import annotations

import base64
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from hvdsl.report.charts import COLOURS, Chart, Line, clean
from hvdsl.report.records import Records
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.metric_names import METRICS

BUCKETS = 280  # of a curve: each gives its least and its largest value
TEXT_LINES, TEXT_WIDTH = 3_000, 400
MOST_LEVELS = 32  # of codes
SHORT = 24  # characters of a cell that stay on one line
STEPS = "step"
_FIRST = (
    names.BITS_PER_DIM,
    names.ERROR_PER_DIM,
    names.NATS_PER_CODE,
    names.ACCURACY,
    names.OBJECTIVE,
    names.DISTORTION_NATS_PER_DIM,
    names.RATE_NATS_PER_DIM,
    names.RATE_BITS_PER_DIM,
    names.BETA,
)
_ELSEWHERE = {
    *(names.GRADIENT_NORM, names.GRADIENT_NORM_LIMIT, names.SKIPPED_STEPS, names.SKIPPED_STEPS_IN_WINDOW),
    *(names.SKIP_STREAK_STEPS, names.LONGEST_SKIP_STREAK_STEPS, names.EPOCH, names.SECONDS_PER_STEP),
    *(names.NEGATIVE_ELBO_NATS_PER_IMAGE, names.NEGATIVE_ELBO_NATS_PER_DIM),  # the first curve in other units
    *(names.RATE_BITS_PER_IMAGE, names.IMAGES, names.SAMPLES),
}
"""What is shown with the gradients, in another unit, or does not change."""
CURVES = (*_FIRST, *(n for n, m in METRICS.items() if n not in {*_FIRST, *_ELSEWHERE} and not m.per_group))
"""Every number that the vocabulary has, what matters most first."""


@dataclass(frozen=True)
class Figure:
    """A picture of a run: a caption and the bytes of a PNG or JPEG; without bytes the caption says why."""

    caption: str
    content: bytes = b""


@dataclass(frozen=True)
class RunReport:
    """What a page tells of one run.

    Attributes:
        name: What it is called in legends.
        facts: The row of the table of runs: title and value.
        records: Its log.
        groups: The resolution of each latent group, in order of generation; empty where it is not known.
        spec: The text of the resolved spec.
        environment: What it noted of its machine.
        figures: Samples and reconstructions.
        notes: What could not be read.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    records: Records
    groups: Sequence[str] = ()
    spec: str = ""
    environment: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = field(default_factory=list)


def page(title: str, runs: Sequence[RunReport]) -> str:
    """The whole document."""
    sections = (
        ("Runs", _runs),
        ("Curves", _curves),
        ("Latent groups", _groups),
        ("Gradients", _gradients),
        ("Codes", _codes),
        ("Pictures", _pictures),
        ("Spec", _specs),
        ("Environment", _environment),
    )
    body = [f"<section><h2>{name}</h2>\n{text}\n</section>" for name, make in sections if (text := make(runs))]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{clean(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{clean(title)}</h1>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _runs(runs: Sequence[RunReport]) -> str:
    titles = list(dict.fromkeys(title for run in runs for title, _ in run.facts))
    rows = []
    for i, run in enumerate(runs):
        facts = dict(run.facts)
        cells = "".join(_cell(facts.get(title, "")) for title in titles)
        rows.append(f'<tr><td class="swatch c{i % COLOURS}">{clean(run.name)}</td>{cells}</tr>')
    head = "".join(f"<th>{clean(title)}</th>" for title in ("run", *titles))
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>{_list(notes)}'


def _cell(text: str) -> str:
    css = ' class="short"' if len(text) <= SHORT else ""
    return f"<td{css}>{clean(text)}</td>"


def _curves(runs: Sequence[RunReport]) -> str:
    charts = []
    for name in CURVES:
        if not any(run.records.named(name) for run in runs):
            continue
        lines = []
        for i, run in enumerate(runs):
            train, validation = (run.records.curve(event, name) for event in ("train", "validation"))
            label = run.name if len(runs) > 1 else "training"
            if len(train):
                lines.append(Line(train.decimated(BUCKETS), i, label=label))
            if len(validation):
                lines.append(Line(validation.decimated(BUCKETS), i, "dots", _validation_label(runs, run)))
        if name == names.BETA and len({y for line in lines for _, y in line.points}) < 2:
            continue  # not scheduled
        known = METRICS[name]
        plain = known.unit in (names.NONE, "images per second")
        title = name.replace("_", " ") if plain else known.heading
        charts.append(Chart(title, STEPS, title if plain else f"{title} ({known.unit})", lines, cut=True))
    return _charts(charts)


def _validation_label(runs: Sequence[RunReport], run: RunReport) -> str:
    return "validation" if len(runs) == 1 else f"{run.name}, validation"


def _groups(runs: Sequence[RunReport]) -> str:
    """How the rate builds up over the hierarchy: a flat stretch is of groups that carry nothing."""
    name, final, times, bars = names.RATE_PER_GROUP_NATS_PER_IMAGE, [], [], []
    for i, run in enumerate(runs):
        snapshots, event = run.records.snapshots("validation", name), "validation"
        if not snapshots:
            snapshots, event = run.records.snapshots("train", name), "train"
        if not snapshots:
            continue
        step, last = snapshots[-1]
        final.append(Line(_cumulative(last), i, label=f"{run.name}, {event}, step {step:,}"))
        bars.append(Line(list(enumerate(last, 1)), i, "dots", run.name))
        chosen = {round(k * (len(snapshots) - 1) / 5) for k in range(6)}
        history = [
            Line(_cumulative(rates), n, label=f"step {at:,}")
            for n, (at, rates) in enumerate(snapshots[k] for k in sorted(chosen))
        ]
        if len(snapshots) > 1:
            bands = _bands(run.groups)
            title = f"Cumulative rate over training, {run.name}"
            times.append(Chart(title, _GROUP, _RATE, history, bands=bands, zero=True))
    bands = _bands(runs[0].groups) if all(run.groups == runs[0].groups for run in runs) else []
    charts = [
        Chart("Cumulative rate by latent group", _GROUP, _RATE, final, bands=bands, zero=True),
        Chart("Rate of each latent group", _GROUP, "rate (nats per image)", bars, bands=bands, zero=True),
        *times,
    ]
    return _charts(charts) if final else ""


_GROUP, _RATE = "latent group, in order of generation", "cumulative rate (nats per image)"


def _cumulative(rates: Iterable[float]) -> list[tuple[float, float]]:
    return list(enumerate(accumulate(0.0 if math.isnan(rate) else rate for rate in rates), 1))


def _bands(resolutions: Sequence[str]) -> list[tuple[float, str]]:
    """Where each resolution begins on the axis of groups."""
    begins = [i for i, r in enumerate(resolutions) if i == 0 or r != resolutions[i - 1]]
    return [(i + 0.5 if i else 1.0, resolutions[i]) for i in begins]


def _gradients(runs: Sequence[RunReport]) -> str:
    charts = []
    for i, run in enumerate(runs):
        norm = run.records.curve("train", names.GRADIENT_NORM)
        limits = run.records.curve("train", names.GRADIENT_NORM_LIMIT)
        if not len(norm):
            continue
        lines = [Line(norm.decimated(BUCKETS), i, label="largest since the record before")]
        levels: list[tuple[float, str]] = []
        if limits.last is not None and min(limits.values) == max(limits.values):
            levels = [(limits.last[1], "skipped from here on")]
        elif limits.last is not None:
            lines.append(Line(limits.decimated(BUCKETS), (i + 1) % COLOURS, "dashed", "skipped from here on"))
        marks = [(float(step), f"step {step:,}: {count:,} updates skipped") for step, count in run.records.skips]
        total = sum(count for _, count in run.records.skips)
        skipped = f", {total:,} updates skipped" if total else ", no update skipped"
        title = f"Gradient norm{skipped}, {run.name}"
        charts.append(
            Chart(title, STEPS, "global L2 norm before clipping", lines, log=True, levels=levels, marks=marks)
        )
    return _charts(charts)


def _codes(runs: Sequence[RunReport]) -> str:
    """How much of each codebook is in use, over training."""
    charts = []
    for name in (names.CODES_USED_PER_GROUP_FRACTION, names.CODE_PERPLEXITY_PER_GROUP_CODES):
        for run in runs:
            snapshots = run.records.snapshots("train", name)
            levels = max((len(values) for _, values in snapshots), default=0)
            lines = [_level(snapshots, k) for k in range(min(levels, MOST_LEVELS))]
            if lines:
                known = METRICS[name]
                unit = "fraction" if known.unit == names.NONE else known.unit
                title = f"{known.heading}, {run.name}"
                charts.append(Chart(title, STEPS, f"{known.heading} ({unit})", lines, zero=True))
    return _charts(charts)


def _level(snapshots: Sequence[tuple[int, list[float]]], k: int) -> Line:
    """The numbers of one level of codes over training; the legend says the last."""
    points = [(float(step), values[k]) for step, values in snapshots if k < len(values) and math.isfinite(values[k])]
    return Line(points, k, label=f"level {k + 1}: {points[-1][1]:.3g}" if points else "")


def _pictures(runs: Sequence[RunReport]) -> str:
    parts = []
    for run in runs:
        if not run.figures:
            continue
        figures = []
        for figure in run.figures:
            kind = "png" if figure.content.startswith(b"\x89PNG") else "jpeg"
            caption, image, css = clean(figure.caption, 600), "", ' class="missing"'
            if figure.content:
                data = base64.b64encode(figure.content).decode()
                image, css = f'<img alt="{caption}" src="data:image/{kind};base64,{data}">', ""
            figures.append(f"<figure{css}><figcaption>{caption}</figcaption>{image}</figure>")
        head = f"<h3>{clean(run.name)}</h3>" if len(runs) > 1 else ""
        parts.append(f'{head}<div class="pictures">{"".join(figures)}</div>')
    return "".join(parts)


def _specs(runs: Sequence[RunReport]) -> str:
    """The first run's spec, and of the others what differs."""
    if not any(run.spec for run in runs):
        return ""
    first = runs[0]
    parts = [f"<details><summary>{clean(first.name)}</summary><pre>{_block(_lines(first.spec))}</pre></details>"]
    for run in runs[1:]:
        difference = list(
            difflib.unified_diff(_lines(first.spec), _lines(run.spec), first.name, run.name, n=2, lineterm="")
        )
        if not difference:
            parts.append(f"<p>{clean(run.name)} has the spec of {clean(first.name)}.</p>")
            continue
        kinds = {"+": "plus", "-": "minus", "@": "place"}
        lines = "".join(
            f'<span class="{kinds.get(line[:1], "same")}">{clean(line, TEXT_WIDTH)}\n</span>' for line in difference
        )
        parts.append(f"<h3>{clean(run.name)} against {clean(first.name)}</h3><pre>{lines}</pre>")
    return "".join(parts)


def _environment(runs: Sequence[RunReport]) -> str:
    titles = list(dict.fromkeys(title for run in runs for title, _ in run.environment))
    if not titles:
        return ""
    head = "".join(f"<th>{clean(run.name)}</th>" for run in runs)
    rows = []
    for title in titles:
        values = [dict(run.environment).get(title, "") for run in runs]
        css = ' class="differs"' if len(set(values)) > 1 else ""
        rows.append(f"<tr{css}><th>{clean(title)}</th>{''.join(f'<td>{clean(value)}</td>' for value in values)}</tr>")
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _charts(charts: Sequence[Chart]) -> str:
    return f'<div class="charts">{"".join(chart.svg() for chart in charts)}</div>' if charts else ""


def _list(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{clean(note, 600)}</li>" for note in notes)}</ul>' if notes else ""


def _lines(text: str) -> list[str]:
    lines = text.splitlines()
    return lines if len(lines) <= TEXT_LINES else [*lines[:TEXT_LINES], f"… {len(lines) - TEXT_LINES:,} lines more"]


def _block(lines: Iterable[str]) -> str:
    return "\n".join(clean(line, TEXT_WIDTH) for line in lines)


# Of the curves of each run: on white, on black.
_COLOURS = (
    ("#2f6fb3", "#6fb1f2"),
    ("#d1671f", "#f29a5c"),
    ("#2e8b57", "#63c78f"),
    ("#b03a5b", "#ee7f9e"),
    ("#7a56b0", "#b394ea"),
    ("#8a6d1d", "#d9b850"),
    ("#1f8a8a", "#57c9c9"),
    ("#6b6b6b", "#b5b5b5"),
)
_LIGHT, _DARK = ("".join(f"--c{i}: {pair[k]}; " for i, pair in enumerate(_COLOURS)) for k in (0, 1))
_CLASSES = "\n".join(f".c{i} {{ color: var(--c{i}); }}" for i in range(len(_COLOURS)))

STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1d2226; --faint: #68717a; --paper: #fff; --grid: #e4e7ea; --band: #f3f5f7;
  --mark: #c62828; {_LIGHT}}}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ec; --faint: #9aa4ad; --paper: #15181b; --grid: #2c3238; --band: #1d2226;
    --mark: #ff6b6b; {_DARK}}}
}}
body {{ margin: 0; font: 14px/1.45 system-ui, "Helvetica Neue", Helvetica, Arial, sans-serif; color: var(--ink);
  background: var(--paper); }}
main {{ max-width: 1240px; margin: 0 auto; padding: 16px 20px 48px; }}
h1 {{ font-size: 22px; overflow-wrap: anywhere; }}
h2 {{ font-size: 17px; margin: 32px 0 8px; border-bottom: 1px solid var(--grid); padding-bottom: 4px; }}
h3 {{ font-size: 14px; margin: 16px 0 6px; overflow-wrap: anywhere; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(460px, 100%), 1fr)); gap: 18px 24px; }}
figure {{ margin: 0; min-width: 0; }}
figcaption {{ font-weight: 600; margin-bottom: 2px; overflow-wrap: anywhere; }}
.charts svg {{ width: 100%; height: auto; display: block; }}
.grid {{ stroke: var(--grid); }}
.axis {{ stroke: var(--faint); fill: none; }}
.band {{ fill: var(--band); }}
.mark {{ stroke: var(--mark); stroke-width: 1.4; }}
.level {{ stroke: var(--mark); stroke-dasharray: 5 4; }}
.tick {{ font-size: 11px; fill: var(--faint); }}
.over {{ paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }}
.name {{ font-size: 12px; fill: var(--ink); }}
.line {{ fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; }}
.dashed {{ stroke-dasharray: 6 4; }}
.thin {{ stroke-width: .8; stroke-dasharray: 2 3; }}
.dots circle {{ fill: currentColor; }}
.legend {{ margin: 2px 0 0; display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; color: var(--faint); }}
.legend span {{ overflow-wrap: anywhere; }}
.charts .key {{ width: 20px; height: 10px; display: inline-block; margin-right: 5px; }}
.none, .missing {{ color: var(--faint); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ text-align: left; padding: 4px 14px 4px 0; vertical-align: top; border-bottom: 1px solid var(--grid); }}
th {{ font-weight: 600; color: var(--faint); white-space: nowrap; }}
td {{ overflow-wrap: break-word; max-width: 34em; }}
.short {{ white-space: nowrap; }}
.differs td, td.swatch {{ font-weight: 600; }}
td.swatch {{ white-space: nowrap; }}
.swatch::before {{ content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin-right: 7px; background: currentColor; }}
.notes {{ color: var(--mark); }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 18px 24px; }}
.pictures img {{ max-width: 100%; display: block; image-rendering: pixelated; background: #fff; }}
pre {{ font: 12px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--band);
  padding: 10px 12px; border-radius: 6px; overflow-x: auto; max-height: 560px; }}
summary {{ cursor: pointer; font-weight: 600; }}
.plus {{ color: var(--c2); }}
.minus {{ color: var(--mark); }}
.place {{ color: var(--c0); }}
.same {{ color: var(--faint); }}
{_CLASSES}
"""
