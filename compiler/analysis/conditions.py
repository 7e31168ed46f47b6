"""What a model is conditioned on, and what reads it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from hvdsl.compiler.analysis.generation import generation
from hvdsl.compiler.assembly.pixels import V, parse_pixel_map
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.model import Model
from hvdsl.grammar.record import Record, record

if TYPE_CHECKING:
    from hvdsl.compiler.analysis.export import Json


@record
class ConditionUse(Record):
    """A field of `data`, as raw numbers `(C, H, W)`, and what reads it.

    `read_by`: `inference`, `generation` (which inference runs, too), `prior NAME`, `target` and `weight`.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int | None
    drop: float
    read_by: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def conditions_of(model: Model) -> tuple[ConditionUse, ...]:
    """Return the fields of a model's data, in order."""
    data, generated = model.settings.data, generation(model.graph).nodes
    names = [field.name for field in data.given]
    inferring = _readers(model.graph)
    readers: dict[str, list[str]] = {name: ["inference"] for name in inferring}
    for name, places in inferring.items():
        if any(place in generated for place in places):
            readers[name].append("generation")
    for latent, graph in model.priors.items():
        for name in _readers(graph):
            readers.setdefault(name, []).append(f"prior {latent}")
    for what, text in (("target", data.target), ("weight", data.weight)):
        for name in set(parse_pixel_map(text, (V, *names)).symbols) - {V} if text is not None else ():
            readers.setdefault(name, []).append(what)
    return tuple(
        ConditionUse(field.name, field.shape, field.classes, field.drop, tuple(readers.get(field.name, ())))
        for field in data.conditions
    )


def _readers(graph: Graph) -> dict[str, list[int]]:
    """The nodes of each field that a graph reads."""
    nodes: dict[str, list[int]] = {}
    for node in graph.nodes:
        if node.args.get("source") == "field":
            nodes.setdefault(str(node.args["name"]), []).append(node.index)
    return nodes
