"""Raster causality of a second-stage prior, proved from its graph.

Offsets are (row, column) from an output's own position. In raster order an offset is earlier where it is smaller as a
pair, so the latest position that a tensor sees follows step by step: a convolution adds its last tap, a shift adds
itself, strict attention adds the position before. Only zero padding is ever beyond the map, so the proof holds at
every border; a tap that masks or padding take away is no tap.
"""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.catalogue.reads import OWN, Offset, Past, Reads
from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.graph import Edge, Graph, Node, Role
from hvdsl.grammar.record import Record, record

BEFORE: Offset = (0, -1)  # in raster order; from column 0 it is the last of the row above, which is earlier still


@record
class Reach(Record):
    """The latest position of the codes that a tensor sees, and by which step: `by` looked `tap` further than `source`.

    `tap` is None for a step that looks at the whole map, or at another grid.
    """

    latest: Offset
    by: Node
    tap: Offset | None = OWN
    source: Reach | None = None

    def steps(self) -> Iterator[Reach]:
        """From here back to the codes."""
        step: Reach | None = self
        while step is not None:
            yield step
            step = step.source


def reaches(graph: Graph) -> dict[Edge, Reach]:
    """How late every tensor sees the prior's own codes; tensors that do not see them at all are left out."""
    found: dict[Edge, Reach] = {}
    for node in graph.nodes:
        reach = _reach(node, [found.get(value) for value in node.inputs], graph)
        if reach is not None:
            found.update({Edge(node.index, port): reach for port in range(len(node.shapes))})
    return found


def own_codes(graph: Graph) -> Node:
    """The node that brings in the codes which the prior is of."""
    return next(n for n in graph.nodes if n.role is Role.CODES)


def _reach(node: Node, inputs: list[Reach | None], graph: Graph) -> Reach | None:
    if node.role is Role.CODES:
        return Reach(OWN, node)
    if node.operation.needs is Needs.SIZE or not any(inputs):
        return None
    reads = node.operation.positions([graph.shape(edge) for edge in node.inputs], node.args)
    found = [_through(node, seen, read, graph) for seen, read in zip(inputs, reads, strict=True) if seen is not None]
    return max(found, key=lambda reach: reach.latest, default=None)


def _through(node: Node, seen: Reach, reads: Reads, graph: Graph) -> Reach:
    offsets = reads.offsets
    if reads.past is not None:
        tap = BEFORE if reads.past is Past.STRICT else OWN
    elif offsets is None:
        return _everywhere(node, seen, graph)
    else:
        tap = max(offsets, default=BEFORE)
    return Reach(_add(seen.latest, tap), node, tap, seen)


def _everywhere(node: Node, source: Reach, graph: Graph) -> Reach:
    """It sees the last position, whichever the own one is."""
    _, height, width = graph.shape(node.inputs[0])
    return Reach(_add(source.latest, (height, width)), node, None, source)


def _add(a: Offset, b: Offset) -> Offset:
    return a[0] + b[0], a[1] + b[1]
