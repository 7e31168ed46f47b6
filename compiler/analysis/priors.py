"""What `hvdsl info` tells of a second-stage prior."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hvdsl.compiler.analysis.causality import own_codes
from hvdsl.compiler.analysis.sight import Sight, sight
from hvdsl.compiler.graph import Graph

if TYPE_CHECKING:
    from hvdsl.compiler.analysis.export import Json


@dataclass(frozen=True, slots=True)
class PriorSummary:
    """A prior over `classes` codes on a map of `height` x `width`; `sight` is of the middle position."""

    name: str
    given: tuple[str, ...]
    classes: int
    height: int
    width: int
    parameters: int
    sight: Sight

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def prior_summary(graph: Graph) -> PriorSummary:
    """Summarise a prior's graph."""
    own = own_codes(graph)
    classes, height, width = own.shapes[0]
    given = tuple(str(n.args["name"]) for n in graph.nodes if n.args.get("source") == "codes")
    return PriorSummary(graph.name, given, classes, height, width, graph.parameter_count(), sight(graph))
