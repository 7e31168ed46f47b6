"""Receptive fields: how many input pixels a tensor's position depends on.

Positions are followed in units of input positions (Araujo, Norris & Sim 2019): a kernel widens the field by
its reach times the distance between neighbouring positions, a stride multiplies that distance and up-sampling
divides it. The field is exact without up-sampling and to within one coarse position after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hvdsl.compiler.catalogue.table import OWN_POSITION, Needs, Reads, ReadWindow
from hvdsl.compiler.graph import Edge, Graph, Node, Role
from hvdsl.grammar.record import Record, record

WHOLE = math.inf


@record
class Extent(Record):
    """Along one axis, position i sees the source's positions [jump * i + first, jump * i + last]."""

    jump: float
    first: float
    last: float

    def through(self, window: ReadWindow, length: int) -> Extent:
        """What an output sees whose window lies on positions that see this; `length` is the input's."""
        if window.everywhere and length > 1:
            return Extent(self.jump, -WHOLE, WHOLE)
        if window.everywhere:
            return self
        return Extent(
            self.jump * window.stride / window.up,
            self.first + self.jump * window.first,
            self.last + self.jump * window.last,
        )

    def join(self, other: Extent) -> Extent:
        return Extent(min(self.jump, other.jump), min(self.first, other.first), max(self.last, other.last))

    @property
    def size(self) -> float:
        return self.last - self.first + 1


Field = tuple[Extent, Extent]  # vertical, horizontal
POINT = (Extent(1, 0, 0), Extent(1, 0, 0))


@record
class Fields(Record):
    """Height and width in pixels of what is seen, never more than the image.

    `posterior`: by latent, in order of generation: what its posterior sees of the image directly, not through
    other latents. `output`: what the output sees of the image through everything, in reconstruction.
    """

    posterior: tuple[tuple[int, int], ...]
    output: tuple[int, int]


def receptive_fields(graph: Graph) -> Fields:
    """The fields of a model.

    Raises:
        ValueError: for a graph without an image (a second-stage prior).
    """
    image = next((node for node in graph.nodes if node.role is Role.IMAGE), None)
    if image is None:
        raise ValueError(f"{graph.name} has no image")
    source = Edge(image.index)
    limit = image.shapes[0][1:]
    direct = _follow(graph, source, through_latents=False)
    through = _follow(graph, source, through_latents=True)
    posteriors = [graph.nodes[group.node].inputs[1:] for group in graph.latents]
    return Fields(
        tuple(_pixels(_joined([direct.get(v) for v in values]), limit) for values in posteriors),
        _pixels(through.get(graph.output), limit),
    )


def _follow(graph: Graph, source: Edge, *, through_latents: bool) -> dict[Edge, Field]:
    """The field in `source` of every tensor that depends on it."""
    fields: dict[Edge, Field] = {source: POINT}
    for node in graph.nodes:
        if node.operation.needs is Needs.SIZE or (node.role is Role.LATENT and not through_latents):
            continue
        if not any(edge in fields for edge in node.inputs):
            continue
        reads = node.operation.positions([graph.shape(edge) for edge in node.inputs], node.args)
        operands = zip(node.inputs, reads, strict=True)
        seen = _joined([_entering(graph, node, edge, read, fields.get(edge)) for edge, read in operands])
        if seen is None:
            continue
        for port in range(len(node.shapes)):
            fields[Edge(node.index, port)] = seen
    return fields


def _entering(graph: Graph, node: Node, value: Edge, reads: Reads, field: Field | None) -> Field | None:
    """What one operand brings to an output position."""
    if field is None:
        return None
    windows = (reads.rows, reads.columns)
    lengths, outputs = graph.shape(value)[1:], node.shapes[0][1:]
    vertical, horizontal = (
        # A single row or column that is broadcast, or repeated, is seen from everywhere.
        Extent(span.jump, -WHOLE, WHOLE)
        if reads == OWN_POSITION and length == 1 < output
        else span.through(window, length)
        for span, window, length, output in zip(field, windows, lengths, outputs, strict=True)
    )
    return vertical, horizontal


def _joined(fields: Sequence[Field | None]) -> Field | None:
    known = [field for field in fields if field is not None]
    if not known:
        return None
    vertical, horizontal = known[0]
    for down, across in known[1:]:
        vertical, horizontal = vertical.join(down), horizontal.join(across)
    return vertical, horizontal


def _pixels(field: Field | None, limit: Sequence[int]) -> tuple[int, int]:
    if field is None:
        return 0, 0
    height, width = (
        most if span.size >= most else math.ceil(span.size) for span, most in zip(field, limit, strict=True)
    )
    return height, width
