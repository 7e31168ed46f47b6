"""A ladder as named boxes and links, in the languages of Graphviz and Mermaid, which lay out by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from hvdsl.draw import columns, style
from hvdsl.draw.ladder import Ladder
from hvdsl.draw.paint import Painter
from hvdsl.draw.pieces import Piece, PieceKind


@dataclass(frozen=True, slots=True)
class OutlineBox:
    id: str
    lines: tuple[str, ...]
    kind: PieceKind | None = None  # None: the image and the likelihood


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of boxes: one resolution of one column, or a prior."""

    id: str
    title: str
    side: str  # encoder, decoder, prior
    boxes: tuple[OutlineBox, ...]


@dataclass(frozen=True, slots=True)
class OutlineLink:
    source: str
    target: str
    label: str = ""
    tap: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    title: str
    ends: tuple[OutlineBox, OutlineBox]  # the image and the likelihood
    clusters: tuple[Cluster, ...]
    links: tuple[OutlineLink, ...]


def outline(ladder: Ladder) -> Outline:
    """Return the boxes and links of a ladder; a frame's count stands in the boxes inside it."""
    ids: dict[int, str] = {}
    clusters: list[Cluster] = []
    links: list[OutlineLink] = []
    for n, band in enumerate(ladder.bands):
        for side, pieces in (("encoder", band.encoder), ("decoder", band.decoder)):
            boxes = tuple(_boxes(pieces, f"{side[0]}{n}_", ids))
            clusters.append(Cluster(f"{side}_{n}", band.label, side, boxes))
    for n, prior in enumerate(ladder.priors):
        boxes = tuple(_boxes(prior.pieces, f"p{n}_", ids))
        clusters.append(Cluster(f"prior_{n}", f"p({', '.join((prior.name, *prior.given))})", "prior", boxes))
        links += [OutlineLink(a.id, b.id) for a, b in pairwise(boxes)]
    up, down = ladder.encoder(), ladder.decoder()
    if up:
        links.append(OutlineLink("image", ids[id(up[0])]))
    links += [OutlineLink(ids[id(a)], ids[id(b)]) for a, b in ladder.flows]
    links += [
        OutlineLink(ids[id(before)], ids[id(tap)])
        for before, tap in pairwise(up)
        if tap.kind is PieceKind.TAP and before.kind is not PieceKind.TAP
    ]
    links += [OutlineLink(ids[id(link.source)], ids[id(link.target)], link.label, link.tap) for link in ladder.links]
    if down:
        links.append(OutlineLink(ids[id(down[-1])], "likelihood"))
    ends = (OutlineBox("image", ("image x", ladder.image)), OutlineBox("likelihood", ("likelihood", ladder.likelihood)))
    return Outline(ladder.title, ends, tuple(g for g in clusters if g.boxes), tuple(links))


def _boxes(pieces: list[Piece], prefix: str, ids: dict[int, str], outer: int = 1) -> Iterator[OutlineBox]:
    for piece in pieces:
        if piece.kind is PieceKind.FRAME:
            yield from _boxes(piece.children, prefix, ids, outer * piece.count)
            continue
        name = f"{prefix}{len(ids)}"
        ids[id(piece)] = name
        yield OutlineBox(name, tuple(_lines(piece, outer)), piece.kind)


def _lines(piece: Piece, outer: int) -> Iterator[str]:
    if piece.kind is PieceKind.TAP:
        yield f"tap {piece.title}".strip()
    elif piece.kind is PieceKind.OPERATIONS:
        yield from columns.operation_lines(piece)
    elif piece.kind is PieceKind.RECIPE:
        yield columns.heading(piece)
        yield columns.detail(piece)
    for mark in piece.marks:
        yield f"{mark.name}: {', '.join(Painter.mark_lines(mark))}"
    if outer > 1:
        yield f"in a row that repeats {outer} times"


_DOT_INK = {"encoder": style.ENCODER, "decoder": style.DECODER, "prior": style.PRIOR}


def dot(ladder: Ladder) -> str:
    """Return a digraph with one cluster per resolution and column."""
    return "\n".join(_dot_lines(ladder)) + "\n"


def _dot_lines(ladder: Ladder) -> Iterator[str]:
    drawn = outline(ladder)
    yield "digraph model {"
    yield f"  label={_dot_text(drawn.title)}; labelloc=t; rankdir=TB; newrank=true;"
    yield '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];'
    yield '  edge [fontname="Helvetica", fontsize=9];'
    for box in drawn.ends:
        yield f"  {_dot_box(box, style.ENDS)}"
    for cluster in drawn.clusters:
        yield from _dot_cluster(cluster)
    for link in drawn.links:
        features = [f"label={_dot_text(link.label)}"] if link.label else []
        if link.tap:
            features += [f'color="{style.ENCODER.stroke}"', "constraint=false"]
        yield f"  {link.source} -> {link.target}" + (f" [{', '.join(features)}];" if features else ";")
    yield "}"


def _dot_cluster(cluster: Cluster) -> Iterator[str]:
    yield f"  subgraph cluster_{cluster.id} {{"
    yield f'    label={_dot_text(cluster.title)}; color="#d5d9dd"; fontname="Helvetica";'
    for box in cluster.boxes:
        yield f"    {_dot_box(box, _DOT_INK[cluster.side])}"
    yield "  }"


def _dot_box(box: OutlineBox, ink: style.Ink) -> str:
    label = _dot_text("\n".join(box.lines))
    ink = style.LATENT if box.kind is PieceKind.LATENT else ink
    shape = ", shape=ellipse" if box.kind is PieceKind.LATENT else ", shape=point" if box.kind is PieceKind.TAP else ""
    return f'{box.id} [label={label}, fillcolor="{ink.fill}", color="{ink.stroke}"{shape}];'


def _dot_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


_MERMAID_INKS = {
    "encoder": style.ENCODER,
    "decoder": style.DECODER,
    "prior": style.PRIOR,
    "latent": style.LATENT,
    "ends": style.ENDS,
}


def mermaid(ladder: Ladder) -> str:
    """Return a flowchart with one subgraph per resolution and column."""
    return "\n".join(_mermaid_lines(outline(ladder))) + "\n"


def _mermaid_lines(drawn: Outline) -> Iterator[str]:
    yield f"---\ntitle: {_mermaid_text(drawn.title)}\n---"
    yield "flowchart TB"
    for box in drawn.ends:
        yield f"  {_mermaid_box(box, 'ends')}"
    for cluster in drawn.clusters:
        yield f"  subgraph {cluster.id}[{_mermaid_text(f'{cluster.side} {cluster.title}')}]"
        for box in cluster.boxes:
            yield f"    {_mermaid_box(box, 'latent' if box.kind is PieceKind.LATENT else cluster.side)}"
        yield "  end"
    for link in drawn.links:
        arrow = "-.->" if link.tap else "-->"
        label = f"|{_mermaid_text(link.label)}|" if link.label else ""
        yield f"  {link.source} {arrow}{label} {link.target}"
    for name, ink in _MERMAID_INKS.items():
        yield f"  classDef {name} fill:{ink.fill},stroke:{ink.stroke},color:{style.TEXT};"


def _mermaid_box(box: OutlineBox, kind: str) -> str:
    label = _mermaid_text("<br>".join(_mermaid_line(line) for line in box.lines))
    left, right = ("([", "])") if kind == "latent" else ("((", "))") if box.kind is PieceKind.TAP else ("[", "]")
    return f"{box.id}{left}{label}{right}:::{kind}"


def _mermaid_text(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'


def _mermaid_line(text: str) -> str:
    return text.replace("<", "#lt;").replace(">", "#gt;")
