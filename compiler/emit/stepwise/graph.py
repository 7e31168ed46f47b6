"""A prior's graph as the sampler sees it: what does not change while a map is drawn, and what each position needs.

Dropout and identities are gone; an elementwise function of a concatenation is the concatenation of functions of its
parts, so that parts which are known beforehand stay known; equal computations are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from hvdsl.compiler.analysis.causality import own_codes, reaches
from hvdsl.compiler.catalogue.convolutions import CONV, DEPTHWISE
from hvdsl.compiler.catalogue.joins import ATTENTION, CONCAT, EXPAND
from hvdsl.compiler.catalogue.reshaping import SHIFT
from hvdsl.compiler.catalogue.rules import integer
from hvdsl.compiler.catalogue.table import OWN, AtRest, Locality, Offset, Reads
from hvdsl.compiler.diagnostics.emission import NO_STEPWISE_FORM
from hvdsl.compiler.graph import ENTRIES, Edge, Graph, Node
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics

_KERNELS = (CONV, DEPTHWISE, SHIFT)  # what the runtime knows as a kernel: a matrix for each position that it reads


class OpKind(StrEnum):
    CODES = "codes"
    STATIC = "static"  # known before the first code is drawn
    LINEAR = "linear"
    TAPS = "taps"  # reads other positions: a convolution, with the shift behind it
    POINTWISE = "pointwise"
    ATTENTION = "attention"


@dataclass(slots=True, eq=False)
class Op:
    """One computation. `inputs` are (op, port); `node` is the graph's, whose operands these may no longer be."""

    kind: OpKind
    node: Node
    inputs: tuple[Ref, ...]
    channels: tuple[int, ...]  # of each output
    pointwise_linear: bool
    shift: tuple[int, int] = (0, 0)  # of taps: down, right

    @property
    def linear(self) -> bool:
        """Whether a static operation could be part of a linear map."""
        return self.kind is OpKind.LINEAR or (self.kind is OpKind.STATIC and self.pointwise_linear)

    @property
    def elementwise(self) -> bool:
        """Whether it is a pure function of each element, which may be computed of several tensors side by side."""
        entry = self.node.operation
        pure = self.kind is OpKind.POINTWISE and len(self.inputs) == 1 and entry.layer is None
        return pure and entry.locality is Locality.ELEMENT


Ref: TypeAlias = tuple[Op, int]


def is_linear(node: Node, graph: Graph) -> bool:
    """Whether each position of the result is a linear map of that position, up to a constant."""
    entry = node.operation
    if entry is EXPAND:  # it names the whole map's size, and so is known whole, or not at all
        return False
    if not entry.linear and entry.at_rest is not AtRest.LINEAR:
        return False
    return not entry.reads_around or all(reads.offsets == (OWN,) for reads in _reads(node, graph))


def _reads(node: Node, graph: Graph) -> tuple[Reads, ...]:
    return node.operation.positions([graph.shape(edge) for edge in node.inputs], node.args)


class StepwiseGraph:
    """Reads a causal prior's graph.

    Attributes:
        ops: In an order in which they can be computed.
        result: The logits.

    Raises:
        SpecError: HV0801, for what has no position-by-position form.
    """

    def __init__(self, graph: Graph) -> None:
        self.ops: list[Op] = []
        self._graph = graph
        self._reaches = reaches(graph)
        self._own = own_codes(graph)
        self._refs: dict[Edge, Ref] = {}
        self._known: dict[object, Op] = {}
        self._problems = Diagnostics()
        live = _live(graph)
        self._uses: dict[Edge, list[Node]] = {}
        for node in graph.nodes:
            for value in node.inputs if node.index in live else ():
                self._uses.setdefault(value, []).append(node)
        for node in graph.nodes:
            if node.index in live:
                self._read(node)
        self._problems.stop_if_failed()
        self.result = self._refs[graph.output]

    def _read(self, node: Node) -> None:
        inputs = tuple(self._refs[value] for value in node.inputs)
        if node.operation.at_rest is AtRest.IDENTITY:
            self._refs[Edge(node.index)] = inputs[0]
            return
        if node.operation is SHIFT and self._folds(node):
            op = inputs[0][0]
            op.shift = integer(node.args, "down"), integer(node.args, "right")
            self._refs[Edge(node.index)] = inputs[0]
            return
        op = self._concatenated(node, inputs) or self._op(self._kind(node), node, inputs)
        for port in range(len(node.shapes)):
            self._refs[Edge(node.index, port)] = (op, port)

    def _op(self, kind: OpKind, node: Node, inputs: tuple[Ref, ...], channels: tuple[int, ...] | None = None) -> Op:
        key = (kind, id(node.operation), tuple(sorted(node.args.items(), key=str)), inputs)
        pure = kind in (OpKind.STATIC, OpKind.POINTWISE) and not node.path and bool(inputs)
        if pure and key in self._known:
            return self._known[key]
        op = Op(kind, node, inputs, channels or tuple(shape[0] for shape in node.shapes), is_linear(node, self._graph))
        self._known[key] = op
        self.ops.append(op)
        return op

    def _concatenated(self, node: Node, inputs: tuple[Ref, ...]) -> Op | None:
        """An elementwise function of a concatenation, part by part."""
        entry = node.operation
        if self._kind(node) is not OpKind.POINTWISE or len(inputs) != 1:
            return None
        if entry.locality is not Locality.ELEMENT or entry.layer is not None:
            return None
        whole = inputs[0][0]
        if whole.node.operation is not CONCAT or whole.kind is not OpKind.LINEAR:
            return None
        parts: list[Ref] = []
        for ref in whole.inputs:
            kind = OpKind.STATIC if ref[0].kind is OpKind.STATIC else OpKind.POINTWISE
            parts.append((self._op(kind, node, (ref,), (ref[0].channels[ref[1]],)), 0))
        return self._op(OpKind.LINEAR, whole.node, tuple(parts), whole.channels)

    def _kind(self, node: Node) -> OpKind:
        reach = self._reaches.get(Edge(node.index))
        if node is self._own:
            return OpKind.CODES
        if not node.inputs and node.role not in ENTRIES:
            return self._refuse(node, "takes nothing in")
        if reach is None:
            return OpKind.STATIC
        if reach.latest >= OWN and not self._is_shifted(node):
            self._refuse(node, "is known only after the code at its own position")
        reads = _reads(node, self._graph)
        if node.operation is ATTENTION:
            causal = all(read.past is not None for read in reads[1:])
            return OpKind.ATTENTION if causal else self._refuse(node, "looks at the whole map")
        from_codes = any(self._refs[value][0].kind is OpKind.CODES for value in node.inputs)
        if is_linear(node, self._graph) and not from_codes:
            return OpKind.LINEAR
        if node.operation in _KERNELS and reads[0].offsets is not None:
            if not from_codes and self._looks_ahead(node, reads[0].offsets):
                return self._refuse(
                    node, "reads positions that come later in raster order of what is computed one by one"
                )
            return OpKind.TAPS
        if not node.operation.reads_around and len(node.shapes) == 1 and not from_codes:
            return OpKind.POINTWISE
        return self._refuse(node, "has no form for one position")

    def _folds(self, node: Node) -> bool:
        """Whether the shift is one with the convolution before it."""
        op = self._refs[node.inputs[0]][0]
        return op.kind is OpKind.TAPS and self._is_shifted(op.node)

    def _is_shifted(self, node: Node) -> bool:
        """Whether a shift follows a convolution and moves nothing but zeros of its padding into the map.

        A convolution that looks down and is then shifted down reads, in the rows that the shift fills with zeros, what
        one set of taps would still see.
        """
        users = self._uses.get(Edge(node.index), [])
        if node.operation not in (CONV, DEPTHWISE) or len(users) != 1 or users[0].operation is not SHIFT:
            return False
        down, right = integer(users[0].args, "down"), integer(users[0].args, "right")
        read = _reads(node, self._graph)[0].offsets or ()
        below, beside = max((r for r, _ in read), default=0), max((c for _, c in read), default=0)
        return down >= 0 and right >= 0 and (not down or below <= 0) and (not right or beside <= 0)

    def _looks_ahead(self, node: Node, offsets: tuple[Offset, ...]) -> bool:
        """Whether it reads what is not there yet: a map of its own that was shifted before may still be causal then."""
        by = self._uses[Edge(node.index)][0].args if self._is_shifted(node) else None
        down, right = (integer(by, "down"), integer(by, "right")) if by is not None else OWN
        return any((row - down, column - right) > OWN for row, column in offsets)

    def _refuse(self, node: Node, why: str) -> OpKind:
        self._problems.add(
            Diagnostic(
                NO_STEPWISE_FORM,
                f"`{node.operation.name}` cannot be sampled position by position",
                node.span,
                f"in `{node.scope.path}` it {why}",
                "convolutions of the codes, each with its own `shift` if it needs one, then causal steps",
            )
        )
        return OpKind.STATIC


def _live(graph: Graph) -> frozenset[int]:
    live = {graph.output.node}
    for node in reversed(graph.nodes):
        if node.index in live:
            live.update(value.node for value in node.inputs)
    return frozenset(live)
