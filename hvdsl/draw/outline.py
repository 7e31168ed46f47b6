"""A ladder as named boxes and edges, for formats that lay out by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from hvdsl.draw import columns
from hvdsl.draw.items import Item, Kind
from hvdsl.draw.ladder import Ladder
from hvdsl.draw.paint import Painter


@dataclass(frozen=True, slots=True)
class Vertex:
    id: str
    lines: tuple[str, ...]
    kind: Kind | None = None  # None: the image and the likelihood


@dataclass(frozen=True, slots=True)
class Group:
    """A cluster of vertices: one resolution of one column, or a prior."""

    id: str
    title: str
    side: str  # encoder, decoder, prior
    vertices: tuple[Vertex, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str
    label: str = ""
    tap: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    title: str
    ends: tuple[Vertex, Vertex]  # the image and the likelihood
    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]


def outline(ladder: Ladder) -> Outline:
    """Return the boxes and edges of a ladder; a frame's count stands in the boxes inside it."""
    ids: dict[int, str] = {}
    groups: list[Group] = []
    edges: list[Edge] = []
    for n, band in enumerate(ladder.bands):
        for side, items in (("encoder", band.encoder), ("decoder", band.decoder)):
            vertices = tuple(_vertices(items, f"{side[0]}{n}_", ids))
            groups.append(Group(f"{side}_{n}", band.label, side, vertices))
    for n, prior in enumerate(ladder.priors):
        vertices = tuple(_vertices(prior.items, f"p{n}_", ids))
        groups.append(Group(f"prior_{n}", f"p({', '.join((prior.name, *prior.given))})", "prior", vertices))
        edges += [Edge(a.id, b.id) for a, b in pairwise(vertices)]
    up, down = ladder.encoder(), ladder.decoder()
    if up:
        edges.append(Edge("image", ids[id(up[0])]))
    edges += [Edge(ids[id(a)], ids[id(b)]) for a, b in ladder.flows]
    edges += [
        Edge(ids[id(before)], ids[id(tap)])
        for before, tap in pairwise(up)
        if tap.kind is Kind.TAP and before.kind is not Kind.TAP
    ]
    edges += [Edge(ids[id(link.source)], ids[id(link.target)], link.label, link.tap) for link in ladder.links]
    if down:
        edges.append(Edge(ids[id(down[-1])], "likelihood"))
    ends = (Vertex("image", ("image x", ladder.image)), Vertex("likelihood", ("likelihood", ladder.likelihood)))
    return Outline(ladder.title, ends, tuple(g for g in groups if g.vertices), tuple(edges))


def _vertices(items: list[Item], prefix: str, ids: dict[int, str], outer: int = 1) -> Iterator[Vertex]:
    for item in items:
        if item.kind is Kind.FRAME:
            yield from _vertices(item.children, prefix, ids, outer * item.count)
            continue
        name = f"{prefix}{len(ids)}"
        ids[id(item)] = name
        yield Vertex(name, tuple(_lines(item, outer)), item.kind)


def _lines(item: Item, outer: int) -> Iterator[str]:
    if item.kind is Kind.TAP:
        yield f"tap {item.title}".strip()
    elif item.kind is Kind.OPERATIONS:
        yield from columns.lines(item)
    elif item.kind is Kind.RECIPE:
        yield columns.heading(item)
        yield columns.detail(item)
    for mark in item.marks:
        yield f"{mark.name}: {', '.join(Painter.mark_lines(mark))}"
    if outer > 1:
        yield f"in a row that repeats {outer} times"
