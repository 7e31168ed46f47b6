"""What one output position of a second-stage prior really sees: exact, by walking back from it through the graph.

Sets of positions are integers, bit row * width + column: a tap is one shift, so a walk through hundreds of steps takes
about a millisecond.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from hvdsl.compiler.analysis.causality import own_codes
from hvdsl.compiler.catalogue.reads import Offset, Past, Reads, Window
from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.graph import Edge, Graph, Node, Shape
from hvdsl.grammar.record import Record, record


@record
class Sight(Record):
    """What logits see: of `earlier` positions before `position` (row, column), `seen` reach them.

    `rows_above` is how many rows up the furthest of them is; `hole` the latest earlier position that does not reach
    them, None if all do.
    """

    position: Offset
    earlier: int
    seen: int
    rows_above: int
    hole: Offset | None


def sight(graph: Graph, position: Offset | None = None) -> Sight:
    """What the logits at `position` see of the prior's own codes; by default in the middle of the map."""
    own = own_codes(graph)
    _, height, width = own.shapes[0]
    row, column = position if position is not None else (height // 2, width // 2)
    at = row * width + column
    seen = seen_positions(graph, (row, column))[own.index] & ((1 << at) - 1)
    missing = ~seen & ((1 << at) - 1)
    first = (seen & -seen).bit_length() - 1
    return Sight(
        position=(row, column),
        earlier=at,
        seen=seen.bit_count(),
        rows_above=row - first // width if seen else 0,
        hole=divmod(missing.bit_length() - 1, width) if missing else None,
    )


def seen_positions(graph: Graph, position: Offset) -> dict[int, int]:
    """For the node of each code map, its own and the given ones, the positions that reach the logits at `position`."""
    needed: dict[Edge, int] = {graph.output: 1 << position[0] * graph.shape(graph.output)[2] + position[1]}
    found = {n.index: 0 for n in graph.nodes if n.args.get("grid") or n.args.get("source") == "codes"}
    for node in reversed(graph.nodes):
        wanted = 0
        for port in range(len(node.shapes)):
            wanted |= needed.pop(Edge(node.index, port), 0)
        if node.index in found:
            found[node.index] = wanted
        elif wanted and node.operation.needs is Needs.VALUES:
            for number, value in enumerate(node.inputs):
                needed[value] = needed.get(value, 0) | _before(node, number, wanted, graph)
    return found


def _before(node: Node, number: int, wanted: int, graph: Graph) -> int:
    """The positions of input `number` that the wanted ones of the output depend on."""
    shapes = [graph.shape(edge) for edge in node.inputs]
    shape, output = shapes[number], node.shapes[0]
    whole = (1 << shape[1] * shape[2]) - 1
    reads = node.operation.positions(shapes, node.args)[number]
    if reads.past is not None:
        last = wanted.bit_length() - 1  # what precedes the last wanted position precedes or is any other
        return (1 << last + (reads.past is Past.INCLUSIVE)) - 1
    if reads.mirrored or (shape[1:] == (1, 1) and shape[1:] != output[1:]):
        return whole
    offsets = reads.offsets
    if offsets is None or shape[1:] != output[1:]:
        return _windows(reads, wanted, output, shape)
    found = 0
    for row, column in offsets:
        inside = wanted & _columns(column, shape)
        by = row * shape[2] + column
        found |= inside << by if by >= 0 else inside >> -by
    return found & whole


def _columns(offset: int, shape: Shape) -> int:
    """The positions whose neighbour `offset` columns on is still in the map."""
    _, height, width = shape
    kept = range(max(0, -offset), min(width, width - offset))
    line = sum(1 << column for column in kept)
    return sum(line << row * width for row in range(height))


def _windows(reads: Reads, wanted: int, output: Shape, shape: Shape) -> int:
    """The same where input and output are different maps, position by position."""
    found = 0
    for position in range(output[1] * output[2]):
        if wanted >> position & 1:
            row, column = divmod(position, output[2])
            rows, columns = _inside(reads.rows, row, shape[1]), _inside(reads.columns, column, shape[2])
            line = sum(1 << c for c in columns)
            found |= sum(line << r * shape[2] for r in rows)
    return found


def _inside(window: Window, position: int, length: int) -> range:
    if window.everywhere:
        return range(length)
    at = position * window.stride // window.up
    return range(max(0, at + window.first), min(length, at + window.last + 1))


if TYPE_CHECKING:
    from hvdsl.compiler.analysis.export import Json


@record
class PriorSummary(Record):
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
