"""Charts as SVG: lines over labelled axes, coloured by classes that a page defines for light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

COLOURS = 8
WIDTH, HEIGHT = 560.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 12.0, 12.0, 44.0
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
HEADROOM = 0.06  # above the largest value, and half of it below the least, as a share of all
PATIENCE = 3.0  # how often the rest of a curve may fit above it before its beginning is cut

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        points: In order of x.
        colour: From 0; beyond `COLOURS` they begin again, dashed.
        style: `solid`, `dashed`, `faint`, or `dots`: a mark at each point.
        label: What the legend calls it; without one it is not in it.
    """

    points: Sequence[Point]
    colour: int = 0
    style: str = "solid"
    label: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines over two axes.

    Attributes:
        title: What it shows.
        x, y: What the axes are, with their units.
        log: Whether y is logarithmic.
        levels: Horizontal lines with their labels.
        marks: Places on x that are marked below the curves, with what to say of each.
        bands: Where on x a stretch begins, and its name.
        zero: Whether y begins at 0.
        cut: Whether the beginning may leave the axes, where the rest would not be seen.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log: bool = False
    levels: Sequence[tuple[float, str]] = ()
    marks: Sequence[tuple[float, str]] = ()
    bands: Sequence[tuple[float, str]] = ()
    zero: bool = False
    cut: bool = False

    def svg(self) -> str:
        """The chart as an element of a page; a sentence where there is nothing to draw."""
        lines = [replace(line, points=[p for p in line.points if self._has_place(p)]) for line in self.lines]
        if not any(line.points for line in lines):
            return f'<figure><figcaption>{clean(self.title)}</figcaption><p class="none">not measured</p></figure>'
        return _Drawing(replace(self, lines=lines)).figure()

    def _has_place(self, point: Point) -> bool:
        return math.isfinite(point[1]) and (point[1] > 0 or not self.log)


class _Drawing:
    """A chart with its scales."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        points = [point for line in chart.lines for point in line.points]
        xs = [x for x, _ in points]
        self.x_ends = _apart(min(xs), max(xs))
        low, high, self.beyond = _range([line.points for line in chart.lines if line.points], chart.cut)
        heights = [low, high, *(level for level, _ in chart.levels if low <= level <= 3 * high)]
        if chart.log:
            positive = [y for _, y in points] + [level for level, _ in chart.levels if level > 0]
            low, high = _apart(math.log10(min(positive)), math.log10(max(positive)))
        else:
            low, high = _apart(0.0 if chart.zero and min(heights) >= 0 else min(heights), max(heights))
        room = HEADROOM * (high - low)
        self.y_ends = low if chart.zero and low == 0 else low - room / 2, high + room

    def figure(self) -> str:
        chart = self.chart
        note = " (the highest early values are cut off)" if self.beyond else ""
        lines = [
            f"<figure><figcaption>{clean(chart.title)}{note}</figcaption>",
            f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{clean(chart.title)}">',
            *self._bands(),
            *self._axes(),
            *self._marks(),
            # A picture of its own, so that nothing leaves the axes.
            f'<svg x="{LEFT:g}" y="{TOP:g}" width="{INNER_WIDTH:g}" height="{INNER_HEIGHT:g}" '
            f'viewBox="{LEFT:g} {TOP:g} {INNER_WIDTH:g} {INNER_HEIGHT:g}">',
            *(self._line(line) for line in chart.lines),
            "</svg>",
            *self._levels(),
            "</svg>",
            self._legend(),
            "</figure>",
        ]
        return "\n".join(line for line in lines if line)

    def _x(self, x: float) -> float:
        low, high = self.x_ends
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _y(self, y: float) -> float:
        low, high = self.y_ends
        value = math.log10(max(y, 1e-300)) if self.chart.log else y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> list[str]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for value in self._y_ticks():
            y = self._y(value)
            parts.append(f'<path class="grid" d="M{LEFT:g} {y:.1f}H{right:g}"/>')
            parts.append(_words("tick", LEFT - 6, y + 3.6, _label(value), "end"))
        for value in ticks(*self.x_ends, 6, whole=True):
            x = self._x(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom:g}v4"/>')
            parts.append(_words("tick", x, bottom + 16, _label(value)))
        parts.append(f'<path class="axis" d="M{LEFT:g} {TOP:g}V{bottom:g}H{right:g}"/>')
        parts.append(_words("name", (LEFT + right) / 2, HEIGHT - 8, self.chart.x))
        upright = _words("name", 0, 0, self.chart.y)
        parts.append(f'<g transform="translate(13 {(TOP + bottom) / 2:g}) rotate(-90)">{upright}</g>')
        return parts

    def _y_ticks(self) -> list[float]:
        if not self.chart.log:
            return ticks(*self.y_ends, 5)
        low, high = self.y_ends
        step = max(1, math.ceil((high - low) / 6))
        factors = (1, 2, 5) if high - low < 3 else (1,)
        powers = range(math.floor(low), math.floor(high) + 1, step)
        found = [m * 10.0**e for e in powers for m in factors if low <= math.log10(m) + e <= high]
        return found if len(found) > 1 else ticks(10.0**low, 10.0**high, 4)

    def _bands(self) -> list[str]:
        """Every second stretch a little darker; its name where there is room."""
        if not self.chart.bands:
            return []
        parts = []
        ends = [x for x, _ in self.chart.bands[1:]] + [self.x_ends[1]]
        for i, ((start, name), end) in enumerate(zip(self.chart.bands, ends, strict=True)):
            x = self._x(max(start, self.x_ends[0]))
            width = self._x(min(end, self.x_ends[1])) - x
            if i % 2 and width > 0:
                size = f'width="{width:.1f}" height="{INNER_HEIGHT:g}"'
                parts.append(f'<rect class="band" x="{x:.1f}" y="{TOP:g}" {size}/>')
            if width > 6.5 * len(name):
                parts.append(_words("tick", x + width / 2, TOP + 12, name))
        return parts

    def _levels(self) -> list[str]:
        parts = []
        for value, label in self.chart.levels:
            y = self._y(value)
            if TOP <= y <= HEIGHT - BOTTOM:
                parts.append(f'<path class="level" d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}"/>')
                parts.append(_words("tick over", WIDTH - RIGHT - 4, y - 4, label, "end"))
        return parts

    def _marks(self) -> list[str]:
        """A tick on the axis for each column of the picture that has a mark."""
        columns: dict[int, list[str]] = {}
        for x, about in self.chart.marks:
            columns.setdefault(round(self._x(x)), []).append(about)
        bottom = HEIGHT - BOTTOM
        return [
            f'<path class="mark" d="M{x} {bottom:g}v-9"><title>{clean(_several(about))}</title></path>'
            for x, about in sorted(columns.items())
        ]

    def _line(self, line: Line) -> str:
        colour = f"c{line.colour % COLOURS}"
        points = [(self._x(x), self._y(y)) for x, y in line.points]
        if not points:
            return ""
        if line.style == "dots" or len(points) == 1:
            dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in points)
            return f'<g class="dots {colour}">{dots}{self._path(points, "thin", colour)}</g>'
        return self._path(points, _style(line), colour)

    @staticmethod
    def _path(points: Sequence[Point], style: str, colour: str) -> str:
        """Relative to the point before, in tenths: half the bytes."""
        rounded = [(round(10 * x), round(10 * y)) for x, y in points]
        text = f"M{rounded[0][0] / 10:g} {rounded[0][1] / 10:g}l"
        steps = [f"{(b[0] - a[0]) / 10:g} {(b[1] - a[1]) / 10:g}" for a, b in pairwise(rounded) if a != b]
        return f'<path class="line {style} {colour}" d="{text}{" ".join(steps)}"/>' if steps else ""

    def _legend(self) -> str:
        labelled = [line for line in self.chart.lines if line.label]
        if len(labelled) < 2 and not any(line.style == "dots" for line in labelled):
            return ""
        items = []
        for line in labelled:
            colour = f"c{line.colour % COLOURS}"
            key = f'<path class="line {_style(line)} {colour}" d="M0 5h20"/>'
            if line.style == "dots":
                key = f'<g class="dots {colour}"><circle cx="10" cy="5" r="2.6"/></g>'
            items.append(f'<span><svg class="key" viewBox="0 0 20 10">{key}</svg>{clean(line.label)}</span>')
        return f'<p class="legend">{"".join(items)}</p>'


def clean(text: str, longest: int = 200) -> str:
    """Text as a page may have it: bounded, escaped, without control characters."""
    shown = text if len(text) <= longest else f"{text[:longest]}…"
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown))


def _style(line: Line) -> str:
    return "dashed" if line.style == "solid" and line.colour >= COLOURS else line.style


def _words(css: str, x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{clean(text)}</text>'


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers between two ends: steps of 1, 2 or 5 times a power of ten; of steps and groups whole ones."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, first + most + 2) if n * step <= high + 1e-9 * span]


def _range(lines: Sequence[Sequence[Point]], cut: bool) -> tuple[float, float, bool]:
    """The least and the largest y, and whether the beginnings of lines are cut for the rest to be seen."""
    values = [y for points in lines for _, y in points]
    low, high = min(values), max(values)
    if not cut:
        return low, high, False
    rest = [y for points in lines for _, y in points[len(points) // 20 :]]
    if rest and high - low > PATIENCE * (max(rest) - min(rest)) > 0:
        return min(low, *rest), max(rest), True
    return low, high, False


def _apart(low: float, high: float) -> tuple[float, float]:
    """Two ends that are not one; a little room around a flat line."""
    if high - low > 1e-3 * max(abs(low), abs(high), 1e-9):  # labels have four digits: ticks would all read the same
        return low, high
    room = max(abs(low) * 0.05, 1e-6)
    return low - room, high + room


def _label(value: float) -> str:
    if value == 0 or abs(value) < 1e-12:
        return "0"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):g}{suffix}"
    if abs(value) < 1e-3:  # 2.5e-4: short enough for the margin
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _several(about: Sequence[str]) -> str:
    return about[0] if len(about) == 1 else f"{about[0]} … {about[-1]}: {len(about)} records"
