"""A ladder in Graphviz's language."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.draw import style
from hvdsl.draw.items import Kind
from hvdsl.draw.ladder import Ladder
from hvdsl.draw.outline import Group, Vertex, outline

_INK = {"encoder": style.ENCODER, "decoder": style.DECODER, "prior": style.PRIOR}


def dot(ladder: Ladder) -> str:
    """Return a digraph with one cluster per resolution and column."""
    return "\n".join(_document(ladder)) + "\n"


def _document(ladder: Ladder) -> Iterator[str]:
    drawn = outline(ladder)
    yield "digraph model {"
    yield f"  label={_quoted(drawn.title)}; labelloc=t; rankdir=TB; newrank=true;"
    yield '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];'
    yield '  edge [fontname="Helvetica", fontsize=9];'
    for vertex in drawn.ends:
        yield f"  {_vertex(vertex, style.ENDS)}"
    for group in drawn.groups:
        yield from _cluster(group)
    for edge in drawn.edges:
        features = [f"label={_quoted(edge.label)}"] if edge.label else []
        if edge.tap:
            features += [f'color="{style.ENCODER.stroke}"', "constraint=false"]
        yield f"  {edge.source} -> {edge.target}" + (f" [{', '.join(features)}];" if features else ";")
    yield "}"


def _cluster(group: Group) -> Iterator[str]:
    yield f"  subgraph cluster_{group.id} {{"
    yield f'    label={_quoted(group.title)}; color="#d5d9dd"; fontname="Helvetica";'
    for vertex in group.vertices:
        yield f"    {_vertex(vertex, _INK[group.side])}"
    yield "  }"


def _vertex(vertex: Vertex, ink: style.Ink) -> str:
    label = _quoted("\n".join(vertex.lines))
    ink = style.LATENT if vertex.kind is Kind.LATENT else ink
    shape = ", shape=ellipse" if vertex.kind is Kind.LATENT else ", shape=point" if vertex.kind is Kind.TAP else ""
    return f'{vertex.id} [label={label}, fillcolor="{ink.fill}", color="{ink.stroke}"{shape}];'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
