"""Raster causality of a second-stage prior, proved from its graph, and what one output position really sees.

Offsets are (row, column) from an output's own position. In raster order an offset is earlier where it is smaller as a
pair, so the latest position that a tensor sees follows step by step: a convolution adds its last tap, a shift adds
itself, strict attention adds the position before. Only zero padding is ever beyond the map, so the proof holds at
every border; a tap that masks or padding take away is no tap.

`sight` walks back from one position. Sets of positions are integers, bit row * width + column: a tap is one shift, so a
walk through hundreds of steps takes about a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.analysis.autoregression import own_channels, read_offsets
from hvdsl.compiler.catalogue.rules import integer
from hvdsl.compiler.catalogue.table import OWN, Needs, Offset, Past, Reads, ReadWindow
from hvdsl.compiler.graph import Edge, Graph, Node, Role, Shape
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
    reached: dict[Edge, Reach] = {}
    for node in graph.nodes:
        reach = _reach(node, [reached.get(value) for value in node.inputs], graph)
        if reach is not None:
            reached.update({Edge(node.index, port): reach for port in range(len(node.shapes))})
    return reached


def own_codes(graph: Graph) -> Node:
    """The node that brings in the codes which the prior is of."""
    return next(n for n in graph.nodes if n.role is Role.CODES)


def depths_seen(graph: Graph) -> dict[Edge, tuple[int, ...]]:
    """By channel, the depths of the codes at its own position that a tensor sees, as bits; of those that see any.

    Of tensors that see nothing later than their own position: what sees earlier ones alone is left out.
    """
    own = own_codes(graph)
    depth, found = integer(own.args, "depth"), reaches(graph)
    each, every = own.shapes[0][0] // depth, (1 << depth) - 1
    seen = {Edge(own.index): tuple(1 << channel // each for channel in range(own.shapes[0][0]))}
    for node in graph.nodes:
        reach = found.get(Edge(node.index))
        if node is own or reach is None or reach.latest < OWN:
            continue
        shapes = [graph.shape(edge) for edge in node.inputs]
        at_own: list[tuple[int, ...] | None] = []
        for edge, reads in zip(node.inputs, node.operation.positions(shapes, node.args), strict=True):
            offsets, before = read_offsets(reads), found.get(edge)
            if before is None:
                at_own.append(None)
            elif offsets is None or any(offset > OWN and _add(before.latest, offset) >= OWN for offset in offsets):
                at_own.append((every,) * graph.shape(edge)[0])  # the own position by way of another
            else:
                at_own.append(seen.get(edge) if OWN in offsets else None)
        channels = own_channels(node, shapes, at_own)
        seen.update({Edge(node.index, port): one for port, one in enumerate(channels)})
    return seen


def _reach(node: Node, inputs: list[Reach | None], graph: Graph) -> Reach | None:
    if node.role is Role.CODES:
        return Reach(OWN, node)
    if node.operation.needs is Needs.SIZE or not any(inputs):
        return None
    reads = node.operation.positions([graph.shape(edge) for edge in node.inputs], node.args)
    inner = [_through(node, seen, read, graph) for seen, read in zip(inputs, reads, strict=True) if seen is not None]
    return max(inner, key=lambda reach: reach.latest, default=None)


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
    seen = {n.index: 0 for n in graph.nodes if n.args.get("grid") or n.args.get("source") == "codes"}
    for node in reversed(graph.nodes):
        wanted = 0
        for port in range(len(node.shapes)):
            wanted |= needed.pop(Edge(node.index, port), 0)
        if node.index in seen:
            seen[node.index] = wanted
        elif wanted and node.operation.needs is Needs.VALUES:
            for number, value in enumerate(node.inputs):
                needed[value] = needed.get(value, 0) | _before(node, number, wanted, graph)
    return seen


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
    positions = 0
    for row, column in offsets:
        inside = wanted & _columns(column, shape)
        by = row * shape[2] + column
        positions |= inside << by if by >= 0 else inside >> -by
    return positions & whole


def positions_beside(positions: int, offset: Offset, shape: Shape) -> int:
    """The positions of a map, as bits, whose neighbour at `offset` is one of `positions`."""
    by = offset[0] * shape[2] + offset[1]
    moved = positions >> by if by >= 0 else positions << -by
    return moved & _columns(offset[1], shape) & ((1 << shape[1] * shape[2]) - 1)


def _columns(offset: int, shape: Shape) -> int:
    """The positions whose neighbour `offset` columns on is still in the map."""
    _, height, width = shape
    kept = range(max(0, -offset), min(width, width - offset))
    line = sum(1 << column for column in kept)
    return sum(line << row * width for row in range(height))


def _windows(reads: Reads, wanted: int, output: Shape, shape: Shape) -> int:
    """The same where input and output are different maps, position by position."""
    positions = 0
    for position in range(output[1] * output[2]):
        if wanted >> position & 1:
            row, column = divmod(position, output[2])
            rows, columns = _inside(reads.rows, row, shape[1]), _inside(reads.columns, column, shape[2])
            line = sum(1 << c for c in columns)
            positions |= sum(line << r * shape[2] for r in rows)
    return positions


def _inside(window: ReadWindow, position: int, length: int) -> range:
    if window.everywhere:
        return range(length)
    at = position * window.stride // window.up
    return range(max(0, at + window.first), min(length, at + window.last + 1))
