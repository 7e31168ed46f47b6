"""What a model costs, of one image, and where: a node's section, row, and the recipe instance run again with it.

Parameters and multiply-accumulates are the graph's; the likelihood is outside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hvdsl.compiler.graph import Graph, GraphScope, Node, Role
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


def holders(graph: Graph) -> dict[int, tuple[GraphScope, ...]]:
    """For each node, the scopes that hold it, outermost first; a `shared` instance counts where used."""
    scopes: dict[int, tuple[GraphScope, ...]] = {}
    todo: list[tuple[GraphScope, tuple[GraphScope, ...]]] = [(graph.root, (graph.root,))]
    while todo:
        scope, above = todo.pop()
        for member in scope.members:
            if isinstance(member, Node):
                scopes[member.index] = above
            else:
                todo.append((member, (*above, member)))
    return scopes


def row_of(above: tuple[GraphScope, ...]) -> GraphScope | None:
    return next((scope for scope in above if scope.kind == "row"), None)


def row_size(row: GraphScope) -> tuple[int, int]:
    """(height, width) from the name of a row: `r32`, `r8x6`."""
    height, _, width = row.name.removeprefix("r").partition("x")
    return int(height), int(width or height)


def segments(graph: Graph) -> dict[str, list[list[int]]]:
    """Recipe instances that are in no other, by path: the nodes of each use. They are what can be run again.

    Those without parameters are not among them, nor are shared ones that some use calls with parameters of its own.
    """

    def outermost(scope: GraphScope) -> Iterator[GraphScope]:
        for member in scope.members:
            if isinstance(member, Node):
                continue
            if member.kind in ("recipe", "shared"):
                yield member
            else:
                yield from outermost(member)

    uses: dict[str, list[GraphScope]] = {}
    for instance in outermost(graph.root):
        uses.setdefault(instance.path, []).append(instance)
    return {
        path: [[node.index for node in use.nodes()] for use in of_path]
        for path, of_path in uses.items()
        if not any(use.own for use in of_path) and any(node.parameters for use in of_path for node in use.nodes())
    }
