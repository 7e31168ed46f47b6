"""A ladder in Mermaid's language, which code hosts render inside Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.draw import style
from hvdsl.draw.items import Kind
from hvdsl.draw.ladder import Ladder
from hvdsl.draw.outline import Outline, Vertex, outline

_INKS = {
    "encoder": style.ENCODER,
    "decoder": style.DECODER,
    "prior": style.PRIOR,
    "latent": style.LATENT,
    "ends": style.ENDS,
}


def mermaid(ladder: Ladder) -> str:
    """Return a flowchart with one subgraph per resolution and column."""
    return "\n".join(_document(outline(ladder))) + "\n"


def _document(drawn: Outline) -> Iterator[str]:
    yield f"---\ntitle: {_quoted(drawn.title)}\n---"
    yield "flowchart TB"
    for vertex in drawn.ends:
        yield f"  {_vertex(vertex, 'ends')}"
    for group in drawn.groups:
        yield f"  subgraph {group.id}[{_quoted(f'{group.side} {group.title}')}]"
        for vertex in group.vertices:
            yield f"    {_vertex(vertex, 'latent' if vertex.kind is Kind.LATENT else group.side)}"
        yield "  end"
    for edge in drawn.edges:
        arrow = "-.->" if edge.tap else "-->"
        label = f"|{_quoted(edge.label)}|" if edge.label else ""
        yield f"  {edge.source} {arrow}{label} {edge.target}"
    for name, ink in _INKS.items():
        yield f"  classDef {name} fill:{ink.fill},stroke:{ink.stroke},color:{style.TEXT};"


def _vertex(vertex: Vertex, kind: str) -> str:
    label = _quoted("<br>".join(_escaped(line) for line in vertex.lines))
    left, right = ("([", "])") if kind == "latent" else ("((", "))") if vertex.kind is Kind.TAP else ("[", "]")
    return f"{vertex.id}{left}{label}{right}:::{kind}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'


def _escaped(text: str) -> str:
    return text.replace("<", "#lt;").replace(">", "#gt;")
