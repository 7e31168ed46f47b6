"""What a model costs: parameters, multiply-accumulates, and the memory of a training step.

Counts are for one image and float32. The likelihood is outside the graph and outside these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hvdsl.compiler.analysis.places import segments
from hvdsl.compiler.catalogue.rules import size
from hvdsl.compiler.catalogue.table import Saves
from hvdsl.compiler.graph import Edge, Graph, Node, Role
from hvdsl.grammar.record import Record, record

FLOAT32 = 4  # bytes

# Drawing z and its closed-form rate keep the noise, the scale, the squared ratio of the scales, the
# difference of the means, the prior's inverse scale, and the product of these two.
KEPT_PER_DRAW = 6


@record
class Cost(Record):
    """`parameters` and `buffers` in elements, `macs` for one image."""

    parameters: int = 0
    buffers: int = 0
    macs: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.buffers + other.buffers, self.macs + other.macs)


@record
class Memory(Record):
    """Bytes of one training step with one image; multiply by the batch.

    `saved`: what the backward pass keeps. `peak`: the allocator's peak over the step, without parameters,
    their gradients and the optimizer's state. `checkpointed`: the same when each recipe instance in a row is
    recomputed in the backward pass.
    """

    saved: int
    peak: int
    checkpointed: int


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node in the forward pass; elementwise work is not counted."""
    if node.role is Role.LATENT:
        prior = graph.nodes[node.inputs[0].node]
        of_draw = prior.operation.distribution.macs if prior.operation.distribution else None
        return of_draw(node.shapes[0], prior.args) if of_draw else 0
    rule = node.operation.macs
    if rule is None:
        return 0
    return rule([graph.shape(value) for value in node.inputs], node.shapes, node.args)


def node_cost(graph: Graph, node: Node) -> Cost:
    own = [p for p in node.parameters if p.role not in node.shared]
    return Cost(
        sum(p.size for p in own if p.trainable),
        sum(p.size for p in own if not p.trainable),
        macs(graph, node),
    )


def cost(graph: Graph, nodes: Iterable[Node] | None = None) -> Cost:
    """The sum over `nodes`: a scope's (`scope.nodes()`), or the whole graph's."""
    total = Cost()
    for node in graph.nodes if nodes is None else nodes:
        total += node_cost(graph, node)
    return total


class Storages:
    """The memory that tensors share: a view is stored where the tensor that it looks at is."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._base: dict[Edge, Edge] = {}
        self._trained: set[int] = set()  # nodes that a gradient passes
        for node in graph.nodes:
            if any(p.trainable for p in node.parameters) or any(v.node in self._trained for v in node.inputs):
                self._trained.add(node.index)
            for port in range(len(node.shapes)):
                own = Edge(node.index, port)
                seen = node.inputs[min(port, len(node.inputs) - 1)] if node.operation.view else own
                self._base[own] = self._base.get(seen, seen)

    def base(self, value: Edge) -> Edge:
        return self._base[value]

    def bytes(self, value: Edge) -> int:
        return size(self.graph.shape(value)) * FLOAT32

    def kept(self, node: Node) -> set[Edge]:
        """The storages that the backward pass of a node needs.

        Convolutions, gelu and silu keep their input, sigmoid and relu their result, products their operands;
        sums, concatenations and views keep nothing. A view keeps the whole tensor that it looks at. What no
        gradient passes keeps nothing.
        """
        if node.index not in self._trained:
            return set()
        match node.operation.saves:
            case Saves.INPUT:
                values: Sequence[Edge] = node.inputs[:1]
            case Saves.INPUTS:
                values = node.inputs
            case Saves.OUTPUT:
                values = [Edge(node.index, port) for port in range(len(node.shapes))]
            case Saves.NOTHING:
                values = []
        return {self.base(value) for value in values}

    def saved(self, nodes: Sequence[Node]) -> int:
        """Bytes that the backward pass through `nodes` keeps for one image: distinct storages, each once."""
        kept: set[Edge] = set()
        for node in nodes:
            kept |= self.kept(node)
        return sum(map(self.bytes, kept)) + _drawn_bytes(nodes)


def saved_bytes(graph: Graph, nodes: Iterable[Node] | None = None) -> int:
    """Bytes that the backward pass through `nodes` (by default all) keeps for one image."""
    return Storages(graph).saved(graph.nodes if nodes is None else list(nodes))


def _drawn_bytes(nodes: Iterable[Node]) -> int:
    return sum(KEPT_PER_DRAW * size(n.shapes[0]) * FLOAT32 for n in nodes if n.role is Role.LATENT)


def memory(graph: Graph) -> Memory:
    """Predict the memory of a training step.

    Peak = saved + the image + two gradients in flight. Checkpointed: what crosses into each recipe instance
    of a row and what is kept outside them, one instance's own at a time, and the same.
    """
    storages = Storages(graph)
    kept = [storages.kept(node) for node in graph.nodes]
    largest = max((storages.bytes(Edge(n.index, p)) for n in graph.nodes for p in range(len(n.shapes))), default=0)
    image = size(graph.image) * FLOAT32 if graph.image else 0
    saved = sum(map(storages.bytes, set().union(*kept))) + _drawn_bytes(graph.nodes)

    inside: set[int] = set()
    crossing: set[Edge] = set()
    recomputed = 0
    for _, members in segments(graph):
        own = set(members)
        inside |= own
        entering = {storages.base(v) for i in members for v in graph.nodes[i].inputs if v.node not in own}
        crossing |= entering
        again = set().union(*(kept[i] for i in members)) - entering
        drawn = _drawn_bytes(graph.nodes[i] for i in members)
        recomputed = max(recomputed, sum(map(storages.bytes, again)) + drawn)
    outside = [node for node in graph.nodes if node.index not in inside]
    remaining = crossing.union(*(kept[node.index] for node in outside))
    checkpointed = sum(map(storages.bytes, remaining)) + _drawn_bytes(outside) + recomputed
    return Memory(saved, saved + image + 2 * largest, checkpointed + image + 2 * largest)
