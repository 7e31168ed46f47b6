"""What a model costs: parameters and multiply-accumulates, of one image. The likelihood is outside the graph."""

from __future__ import annotations

from collections.abc import Iterable

from hvdsl.compiler.graph import Graph, Node, Role
from hvdsl.grammar.record import Record, record


@record
class Cost(Record):
    """`parameters` and `buffers` in elements, `macs` for one image."""

    parameters: int = 0
    buffers: int = 0
    macs: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.buffers + other.buffers, self.macs + other.macs)


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
