"""Raster causality of a second-stage prior, proved from its graph, and what each output position really sees.

Offsets are (row, column) from an output's own position. In raster order an offset is earlier where it is smaller as a
pair, so the latest position that a tensor sees follows step by step: a convolution adds its last tap, a shift adds
itself, strict attention adds the position before. Only zero padding is ever beyond the map, so the proof holds at
every border; a tap that masks or padding take away is no tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hvdsl.compiler.catalogue.reads import OWN, Offset, Past, Reads
from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.diagnostics.shapes import NOT_CAUSAL
from hvdsl.compiler.graph import Edge, Graph, Node, Role
from hvdsl.grammar.diagnostics import Diagnostic

BEFORE: Offset = (0, -1)  # in raster order; from column 0 it is the last of the row above, which is earlier still


@dataclass(frozen=True, slots=True)
class Reach:
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


def check_causality(graph: Graph) -> Diagnostic | None:
    """What is wrong with a prior that sees its own or a later position; None if it is causal."""
    reach = reaches(graph).get(graph.output)
    if reach is None or reach.latest < OWN:
        return None
    guilty = _guilty(reach)
    node = guilty.by
    where = f" in `{node.scope.path}`" if node.scope.path else ""
    return Diagnostic(
        NOT_CAUSAL,
        f"the prior of `{graph.name}` sees {'its own' if reach.latest == OWN else 'a later'} position",
        node.span,
        f"`{node.operation.name}`{where} {_reads(guilty.tap)}",
        "logits that depend on codes before their own position in raster order only",
        "mask the convolution, `mask = causal(exclude)`; or pad above and to the left only, then `shift`",
    )


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


def _guilty(reach: Reach) -> Reach:
    """The step that looks furthest ahead; where none does, the first one that lets the own position in."""
    steps = [step for step in reach.steps() if step.source is not None]
    ahead = max(steps, key=lambda step: (step.tap is None, step.tap or OWN), default=reach)
    if ahead.tap is None or ahead.tap > OWN:
        return ahead
    spatial = [step for step in steps if step.by.operation.reads_around]
    return (spatial or steps or [reach])[-1]


def _reads(tap: Offset | None) -> str:
    if tap is None:
        return "looks at the whole map"
    if tap == OWN:
        return "reads the own position: tap (0, 0)"
    rows, columns = tap
    parts = [f"{abs(rows)} {'row' if abs(rows) == 1 else 'rows'} {'below' if rows > 0 else 'above'}"] if rows else []
    if columns:
        parts.append(
            f"{abs(columns)} {'column' if abs(columns) == 1 else 'columns'} to the {'right' if columns > 0 else 'left'}"
        )
    return f"reads {' and '.join(parts)}: tap ({rows}, {columns})"
