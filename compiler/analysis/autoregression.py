"""What an element of a tensor sees of the tensor that a flow transforms: the proof that its Jacobian is triangular.

The elements of z are ordered by position, in raster order, and at one position by channel. For every tensor made of z
this follows two things: whether an element sees positions before or after its own, and which channels of z it sees
at its own. A tensor that is not made of z (a context) adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from hvdsl.compiler.catalogue.table import OWN, Args, Channels, Locality, Needs, Offset, Operation, Past, Reads
from hvdsl.compiler.graph import Edge, Graph, Node, Shape
from hvdsl.grammar.record import Record, record


@record
class Seen(Record):
    """`before`, `after`: other positions of z, in raster order. `own`: by channel, the channels of z there, as bits.

    `mixed_by` is the first node after which no order of the positions is left.
    """

    own: tuple[int, ...]
    before: bool = False
    after: bool = False
    mixed_by: int | None = None


def seen_of(graph: Graph, source: Edge, last: int) -> dict[Edge, Seen]:
    """What every tensor up to node `last` that is made of `source` sees of it: a tensor that is not is absent."""
    channels, *grid = graph.shape(source)
    seen_by = {source: Seen(tuple(1 << c for c in range(channels)))}
    for node in graph.nodes[source.node + 1 : last + 1]:
        if node.operation.needs is Needs.SIZE or not any(edge in seen_by for edge in node.inputs):
            continue
        operands = [seen_by.get(edge) for edge in node.inputs]
        keeps_place = all(list(shape[1:]) == grid for shape in node.shapes)
        for port, seen in enumerate(_through(graph, node, operands) if keeps_place else _everything(node, operands)):
            if seen.mixed_by is None and seen.before and seen.after:
                seen = Seen(seen.own, True, True, node.index)
            seen_by[Edge(node.index, port)] = seen
    return seen_by


def _through(graph: Graph, node: Node, operands: Sequence[Seen | None]) -> tuple[Seen, ...]:
    """What follows from the positions and the channels that the operation reads."""
    if node.operation.whole_batch:
        return _everything(node, operands)
    shapes = [graph.shape(edge) for edge in node.inputs]
    before = after = False
    mixed: int | None = None
    at_own: list[Seen | None] = []
    for seen, reads in zip(operands, node.operation.positions(shapes, node.args), strict=True):
        at_own.append(None)
        if seen is None:
            continue
        offsets = read_offsets(reads)
        if offsets is None:
            return _everything(node, operands)
        # What is mirrored at the border comes from after it, or from before.
        earlier, later = any(o < OWN for o in offsets), any(o > OWN for o in offsets)
        before |= seen.before or earlier or (reads.mirrored and later)
        after |= seen.after or later or (reads.mirrored and earlier)
        mixed = seen.mixed_by if mixed is None else mixed
        at_own[-1] = seen if OWN in offsets else None
    own = own_channels(node, shapes, [None if seen is None else seen.own for seen in at_own])
    return tuple(Seen(channels, before, after, mixed) for channels in own)


def own_channels(
    node: Node, shapes: Sequence[Shape], at_own: Sequence[tuple[int, ...] | None]
) -> tuple[tuple[int, ...], ...]:
    """What each channel of each output sees at its own position, of what those of its operands see there, as bits."""
    behind = [_Behind(own) if own is not None else None for own in at_own]
    return tuple(
        tuple(
            reduce(or_, (one(mask) for mask, one in zip(masks, behind, strict=True) if one is not None), 0)
            for masks in outputs
        )
        for outputs in channel_reads(node.operation, shapes, node.shapes, node.args)
    )


def read_offsets(reads: Reads) -> tuple[Offset, ...] | None:
    """The offsets that a tensor is read at, at the border too; what precedes it everywhere stands as one."""
    if reads.past is not None:
        return ((0, -1), OWN) if reads.past is Past.INCLUSIVE else ((0, -1),)
    return reads._replace(mirrored=False).offsets


class _Behind:
    """The channels of z behind some channels of an operand at its own position, which are mostly those of before."""

    def __init__(self, own: tuple[int, ...]) -> None:
        self._own = own
        self._mask = self._bits = 0

    def __call__(self, mask: int) -> int:
        known = self._mask & mask == self._mask
        rest, bits = (mask ^ self._mask, self._bits) if known else (mask, 0)
        while rest:
            lowest = rest & -rest
            bits |= self._own[lowest.bit_length() - 1]
            rest ^= lowest
        self._mask, self._bits = mask, bits
        return bits


def channel_reads(
    operation: Operation, inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args
) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """For each output, each of its channels and each operand: the channels that it is made of, as bits."""
    rule = operation.channels
    if rule is None:
        rule = Channels.SAME if operation.locality is Locality.ELEMENT else Channels.ALL
    if not isinstance(rule, Channels):
        return rule(inputs, args)
    if rule is Channels.ALL:
        every = tuple((1 << shape[0]) - 1 for shape in inputs)
        return tuple((every,) * output[0] for output in outputs)
    return tuple(
        tuple(tuple(1 << (c if shape[0] > 1 else 0) for shape in inputs) for c in range(output[0]))
        for output in outputs
    )


def _everything(node: Node, operands: Sequence[Seen | None]) -> tuple[Seen, ...]:
    """What an operation that keeps no order sees: everything."""
    known = [seen for seen in operands if seen is not None]
    own = reduce(or_, (bits for seen in known for bits in seen.own))
    mixed = next((seen.mixed_by for seen in known if seen.mixed_by is not None), node.index)
    return tuple(Seen((own,) * shape[0], True, True, mixed) for shape in node.shapes)
