"""A small graph in layers, from top to bottom: boxes, circles, and lines with right angles between them.

Sugiyama, Tagawa & Toda 1981: layers by the longest path, an order within each that crosses few lines (barycentres), and
places near those of the neighbours. Lines that pass over layers have a place of their own in each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from hvdsl.draw import style
from hvdsl.draw.paint import name_inside
from hvdsl.draw.picture import Anchor, Circle, Picture, Point, Polygon, Text, Wire, box, text_width

MARGIN, TOP = 26.0, 84.0
APART = 26.0  # between neighbours of a layer
PASSING = 10.0  # width of a line that passes
NEAR = 10.0  # the least between neighbours of a layer, where that makes a line straight
SLIGHT = 12.0  # a bend that only disturbs
LANE = 9.0
SWEEPS = 12


class Look(StrEnum):
    END = "end"  # what enters, what leaves
    STEP = "step"  # plain operations
    RECIPE = "recipe"
    LATENT = "latent"


@dataclass(slots=True, eq=False)
class Vertex:
    """A piece of the drawing; the first of its lines is its name."""

    lines: tuple[str, ...]
    look: Look
    about: str = ""
    aside: tuple[str, ...] = ()  # beside a circle
    dashed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Arrow:
    source: Vertex
    target: Vertex
    label: str = ""
    dashed: bool = False


@dataclass(slots=True, eq=False)
class _Slot:
    """A vertex in its layer, or the place where a line passes one."""

    vertex: Vertex | None
    width: float
    height: float
    x: float = 0.0  # middle
    y: float = 0.0  # top
    above: list[_Slot] = field(default_factory=list)
    below: list[_Slot] = field(default_factory=list)


def layered(
    title: str, facts: str, vertices: Sequence[Vertex], arrows: Sequence[Arrow], ink: style.Ink = style.DECODER
) -> Picture:
    """Return the picture of a graph without circles; the vertices are in an order in which arrows go forwards."""
    slots = {vertex: _Slot(vertex, *_size(vertex)) for vertex in vertices}
    layers = _layers(vertices, arrows, slots)
    routes = {arrow: _route(arrow, slots, layers) for arrow in arrows}
    _order(layers)
    _place(layers)
    _align(layers)
    _straighten(layers, routes.values())
    lines = facts.splitlines()
    heading = max(text_width(title, style.TITLE, "SemiBold"), *(text_width(line, style.OPERATION) for line in lines))
    left = min(slot.x - slot.width / 2 for layer in layers for slot in layer)
    right = max(slot.x + slot.width / 2 for layer in layers for slot in layer)
    picture = Picture(title, max(right - left, heading) + 2 * MARGIN, 0)
    for slot in (slot for layer in layers for slot in layer):
        slot.x += (picture.width - right - left) / 2
    lanes = _lanes(layers, routes)
    y = TOP + style.LINE_HEIGHT * (len(lines) - 1)
    for n, layer in enumerate(layers):
        tallest = max(slot.height for slot in layer)
        for slot in layer:
            slot.y = y + (tallest - slot.height) / 2
        y += tallest + style.GAP + LANE * (1 + max((lane for (at, _), lane in lanes.items() if at == n), default=0))
    _draw_arrows(picture, layers, routes, lanes)
    for slot in slots.values():
        _draw_vertex(picture, slot, ink)
    picture.height = y
    picture.shapes.append(Text(title, (MARGIN - 6, 28), style.TITLE, style.TEXT, "SemiBold", "start"))
    for n, line in enumerate(lines):
        at = (MARGIN - 6, 50 + style.LINE_HEIGHT * n)
        picture.shapes.append(Text(line, at, style.OPERATION, style.FAINT, anchor="start"))
    return picture


def _size(vertex: Vertex) -> tuple[float, float]:
    if vertex.look is Look.LATENT:
        beside = max((text_width(line, style.DETAIL) for line in vertex.aside), default=0.0)
        return 2 * (style.CIRCLE + 7 + beside), 2 * style.CIRCLE
    name, *others = vertex.lines
    plain = vertex.look is Look.STEP
    first = text_width(name, style.OPERATION if plain else style.NAME, "Regular" if plain else "SemiBold")
    rest = max((text_width(line, style.OPERATION if plain else style.DETAIL) for line in others), default=0.0)
    high = style.LINE_HEIGHT * len(vertex.lines) + 12 if plain else 24.0 + 14 * len(others)
    return max(first, rest, 60.0) + 28, high


def _layers(vertices: Sequence[Vertex], arrows: Sequence[Arrow], slots: Mapping[Vertex, _Slot]) -> list[list[_Slot]]:
    depth: dict[Vertex, int] = {}
    for vertex in vertices:
        depth[vertex] = max((depth[a.source] + 1 for a in arrows if a.target is vertex), default=0)
    for vertex in reversed(vertices):  # what has no input stands right above what it feeds
        fed = [depth[a.target] for a in arrows if a.source is vertex]
        if fed and not any(a.target is vertex for a in arrows) and vertex.look is not Look.END:
            depth[vertex] = min(fed) - 1
    layers: list[list[_Slot]] = [[] for _ in range(max(depth.values()) + 1)]
    for vertex in vertices:
        layers[depth[vertex]].append(slots[vertex])
    return layers


def _route(arrow: Arrow, slots: Mapping[Vertex, _Slot], layers: list[list[_Slot]]) -> list[_Slot]:
    """Return the places that an arrow passes, its ends included; makes those in between."""
    start, end = slots[arrow.source], slots[arrow.target]
    first, last = (next(n for n, layer in enumerate(layers) if slot in layer) for slot in (start, end))
    route = [start]
    for n in range(first + 1, last):
        passing = _Slot(None, PASSING, 0.0)
        layers[n].append(passing)
        route.append(passing)
    route.append(end)
    for above, below in pairwise(route):
        above.below.append(below)
        below.above.append(above)
    return route


def _order(layers: list[list[_Slot]]) -> None:
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            turn = {id(slot): n for other in layers for n, slot in enumerate(other)}
            mean = {id(slot): _mean((slot.above if down else slot.below), turn, turn[id(slot)]) for slot in layer}
            layer.sort(key=lambda slot: mean[id(slot)])


def _mean(neighbours: Iterable[_Slot], turn: Mapping[int, int], own: float) -> float:
    turns = [turn[id(slot)] for slot in neighbours]
    return sum(turns) / len(turns) if turns else own


def _place(layers: list[list[_Slot]]) -> None:
    for layer in layers:
        x = 0.0
        for slot in layer:
            slot.x = x + slot.width / 2
            x += slot.width + APART
    for sweep in range(2 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wished = [_wish(slot, sweep % 2 == 0) for slot in layer]
            _spread(layer, wished)


def _wish(slot: _Slot, down: bool) -> float:
    neighbours = (slot.above if down else slot.below) or [*slot.above, *slot.below]
    return sum(other.x for other in neighbours) / len(neighbours) if neighbours else slot.x


def _spread(layer: list[_Slot], wished: list[float]) -> None:
    """Place a layer as near to what is wished as its order and widths allow: the mean of a pass from either side."""
    left, right = list(wished), list(wished)
    for n in range(1, len(layer)):
        left[n] = max(left[n], left[n - 1] + (layer[n - 1].width + layer[n].width) / 2 + APART)
    for n in range(len(layer) - 2, -1, -1):
        right[n] = min(right[n], right[n + 1] - (layer[n + 1].width + layer[n].width) / 2 - APART)
    for slot, a, b in zip(layer, left, right, strict=True):
        slot.x = (a + b) / 2


def _align(layers: list[list[_Slot]]) -> None:
    """Move what has one line in, alone from its source, right below that source where its layer has room."""
    for layer in layers:
        room = _room(layer)
        for slot in layer:
            if len(slot.above) != 1 or len(slot.above[0].below) != 1:
                continue
            low, high = room[id(slot)]
            if abs(slot.above[0].x - slot.x) < SLIGHT and low <= slot.above[0].x <= high:
                slot.x = slot.above[0].x
                room = _room(layer)


def _straighten(layers: list[list[_Slot]], routes: Iterable[list[_Slot]]) -> None:
    """Let a line that passes several layers run straight down as far as the layers leave room for it."""
    room = {key: span for layer in layers for key, span in _room(layer).items()}
    where = {id(slot): layer for layer in layers for slot in layer}
    for route in routes:
        passing = route[1:-1]
        while passing:
            low, high, n = -math.inf, math.inf, 0
            while n < len(passing):
                a, b = room[id(passing[n])]
                if max(low, a) > min(high, b):
                    break
                low, high, n = max(low, a), min(high, b), n + 1
            n = max(n, 1)
            wished = _ports(route[-1], route[-1].above, route[-2]) if n == len(passing) else passing[n - 1].x
            for slot in passing[:n]:
                slot.x = min(max(wished, low), high)
                room |= _room(where[id(slot)])
            passing = passing[n:]


def _room(layer: list[_Slot]) -> dict[int, tuple[float, float]]:
    """Return how far to either side each slot of a layer can move between its neighbours."""
    room = {}
    for n, slot in enumerate(layer):
        low = high = math.inf
        if n:
            low = slot.x - layer[n - 1].x - (slot.width + layer[n - 1].width) / 2 - NEAR
        if n + 1 < len(layer):
            high = layer[n + 1].x - slot.x - (slot.width + layer[n + 1].width) / 2 - NEAR
        room[id(slot)] = slot.x - max(low, 0.0), slot.x + max(high, 0.0)
    return room


def _ports(slot: _Slot, others: list[_Slot], other: _Slot) -> float:
    """Where on a slot's side the line to another one is: spread by where the others are."""
    if slot.vertex is None or len(others) == 1:
        return slot.x
    ordered = sorted(others, key=lambda s: s.x)
    room = min(slot.width - 20, 26.0 * (len(ordered) - 1))
    if slot.vertex.look is Look.LATENT:
        # What enters stands wider apart than what leaves, so that neither runs over the other between two circles.
        room = min(room, style.CIRCLE * (1.3 if others is slot.above else 0.5))
    return slot.x - room / 2 + room * ordered.index(other) / (len(ordered) - 1)


def _lanes(layers: list[list[_Slot]], routes: Mapping[Arrow, list[_Slot]]) -> dict[tuple[int, tuple[int, int]], int]:
    """Give lines that bend between two layers heights of their own where they would run over each other.

    Of lines to one side, those that have the shortest way to that side turn first: no two of them cross.
    """
    number = {id(slot): n for n, layer in enumerate(layers) for slot in layer}
    bends = [
        (number[id(a)], (id(a), id(b)), _ports(a, a.below, b), _ports(b, b.above, a))
        for route in routes.values()
        for a, b in pairwise(route)
    ]
    taken: dict[int, list[list[tuple[float, float]]]] = {}
    lanes: dict[tuple[int, tuple[int, int]], int] = {}
    for layer, pair, start, end in sorted(bends, key=lambda bend: -bend[2] if bend[3] > bend[2] else bend[2]):
        if abs(start - end) < 1:
            continue
        low, high = min(start, end) - 6, max(start, end) + 6
        rows = taken.setdefault(layer, [])
        last = max((r for r, spans in enumerate(rows) if any(s <= high and low <= e for s, e in spans)), default=-1)
        if last + 1 == len(rows):
            rows.append([])
        rows[last + 1].append((low, high))
        lanes[layer, pair] = last + 1
    return lanes


def _draw_arrows(
    picture: Picture,
    layers: list[list[_Slot]],
    routes: Mapping[Arrow, list[_Slot]],
    lanes: Mapping[tuple[int, tuple[int, int]], int],
) -> None:
    number = {id(slot): n for n, layer in enumerate(layers) for slot in layer}
    floor = [max(slot.y + slot.height for slot in layer) for layer in layers]
    for arrow, route in routes.items():
        points: list[Point] = []
        for a, b in pairwise(route):
            start, end = _ports(a, a.below, b), _ports(b, b.above, a)
            n = number[id(a)]
            if not points:
                points.append((start, a.y + a.height))
            if abs(start - end) >= 1:
                y = floor[n] + 8 + LANE * lanes[n, (id(a), id(b))]
                points += [(start, y), (end, y)]
            points.append((end, b.y))
        straight = [p for i, p in enumerate(points) if i in (0, len(points) - 1) or not _between(points, i)]
        colour = style.LATENT.stroke if arrow.label else style.STREAM
        picture.shapes.append(Wire(tuple(straight), colour, 1.3, radius=6, dashed=arrow.dashed))
        if arrow.label:
            (x, y), right = straight[-1], straight[-1][0] > route[-1].x + 1
            anchor: Anchor = "start" if right else "end"
            at = (x + (7 if right else -7), y - 12)
            picture.shapes.append(Text(arrow.label, at, style.DETAIL, colour, "Italic", anchor, halo=style.PAPER))


def _between(points: list[Point], i: int) -> bool:
    (x0, _), (x1, _), (x2, _) = points[i - 1 : i + 2]
    return abs(x0 - x1) < 0.5 and abs(x1 - x2) < 0.5


def _draw_vertex(picture: Picture, slot: _Slot, ink: style.Ink) -> None:
    vertex = slot.vertex
    assert vertex is not None  # only lines pass without one
    left = slot.x - slot.width / 2
    if vertex.look is Look.LATENT:
        centre = (slot.x, slot.y + style.CIRCLE)
        colours = style.LATENT
        picture.shapes.append(
            Circle(centre, style.CIRCLE, colours.fill, colours.stroke, 1.5, vertex.dashed, vertex.about)
        )
        picture.shapes.extend(name_inside(vertex.lines[0], centre))
        for n, line in enumerate(vertex.aside):
            y = centre[1] + (n - (len(vertex.aside) - 1) / 2) * 13
            at = (slot.x + style.CIRCLE + 7, y)
            picture.shapes.append(Text(line, at, style.DETAIL, style.TEXT, anchor="start", halo=style.PAPER))
        return
    fill = {Look.END: style.ENDS.fill, Look.STEP: style.PAPER, Look.RECIPE: ink.fill}[vertex.look]
    stroke = style.ENDS.stroke if vertex.look is Look.END else ink.stroke
    outline = box(left, slot.y, slot.width, slot.height)
    picture.shapes.append(Polygon(outline, fill, stroke, radius=5, about=vertex.about))
    plain = vertex.look is Look.STEP
    step = style.LINE_HEIGHT if plain else 15.0
    for n, line in enumerate(vertex.lines):
        y = slot.y + slot.height / 2 + (n - (len(vertex.lines) - 1) / 2) * step
        name = n == 0 and not plain
        size = style.NAME if name else style.OPERATION if plain else style.DETAIL
        colour = style.TEXT if name or plain else style.FAINT
        picture.shapes.append(Text(line, (slot.x, y), size, colour, "SemiBold" if name else "Regular"))
