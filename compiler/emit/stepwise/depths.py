"""Priors over several codes at each position: what these share, computed once, and what each makes of those before it.

What sees the codes of its own position stands at the end of the network, and works on each position by itself: the
heads. All that they read of the rest is one tensor, the output of a graph that any prior could have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hvdsl.compiler.analysis.causality import BEFORE, own_codes, reaches
from hvdsl.compiler.catalogue.joins import CONCAT, EXPAND
from hvdsl.compiler.catalogue.table import OWN, AtRest
from hvdsl.compiler.diagnostics.emission import NO_STEPWISE_FORM
from hvdsl.compiler.graph import Edge, Graph, Node, Role
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


@dataclass(frozen=True, slots=True, eq=False)
class Parted:
    """A prior in two.

    Attributes:
        shared: The graph of what is computed of earlier positions.
        context: What of it the heads read, side by side in its output.
        heads: The nodes of the heads, in order; none where a position has one code.
    """

    shared: Graph
    context: tuple[Edge, ...] = ()
    heads: tuple[Node, ...] = ()


def parted(graph: Graph) -> Parted:
    """Part a causal prior; one over one code at each position is all shared.

    Raises:
        SpecError: HV0801, for heads that read around them, or nothing of earlier positions.
    """
    own = own_codes(graph)
    if own.args["depth"] == 1:
        return Parted(graph)
    latest = {edge: reach.latest for edge, reach in reaches(graph).items()}
    heads: set[int] = set()
    context: dict[Edge, None] = {}
    waiting = [graph.output]
    while waiting:
        edge = waiting.pop()
        if edge.node == own.index or edge.node in heads:
            continue
        if latest.get(edge, BEFORE) < OWN:
            context[edge] = None
            continue
        node = graph.nodes[edge.node]
        if not _is_pointwise(node, graph):
            raise _refused(node, "reads around the own position codes that are drawn there")
        heads.add(node.index)
        waiting += node.inputs
    edges = tuple(sorted(context, key=lambda edge: (edge.node, edge.port)))
    if not any(edge in latest for edge in edges):
        raise _refused(graph.nodes[graph.output.node], "reads nothing of earlier positions")
    return Parted(_shared(graph, edges, own.shapes[0][1:]), edges, tuple(graph.nodes[i] for i in sorted(heads)))


def is_passed(node: Node) -> bool:
    """Whether a node of the heads is its input once training is over."""
    return node.operation.at_rest is AtRest.IDENTITY or node.role is Role.OUTPUT


def _is_pointwise(node: Node, graph: Graph) -> bool:
    reads = node.operation.positions([graph.shape(edge) for edge in node.inputs], node.args)
    return all(read.past is None and read.offsets == (OWN,) for read in reads)


def _shared(graph: Graph, edges: tuple[Edge, ...], grid: tuple[int, int]) -> Graph:
    """The same graph, with what the heads read as its output."""
    nodes, inputs = list(graph.nodes), []
    root, span = graph.root, graph.nodes[graph.output.node].span
    for edge in edges:
        channels, *size = graph.shape(edge)
        if tuple(size) != grid:  # a 1x1 map, which is the same at every position
            nodes.append(Node(len(nodes), EXPAND, {"size": grid}, (edge,), ((channels, *grid),), root, span))
            edge = Edge(nodes[-1].index)
        inputs.append(edge)
    if len(inputs) == 1:
        return replace(graph, nodes=nodes, output=inputs[0])
    channels = sum(graph.shape(edge)[0] for edge in edges)
    nodes.append(Node(len(nodes), CONCAT, {}, tuple(inputs), ((channels, *grid),), root, span))
    return replace(graph, nodes=nodes, output=Edge(nodes[-1].index))


def _refused(node: Node, why: str) -> SpecError:
    where = f" in `{node.scope.path}`" if node.scope.path else ""
    expected = "heads that work on each position by itself, of what earlier positions give and of the depths before"
    message = f"`{node.operation.name}` cannot be sampled depth by depth"
    return SpecError([Diagnostic(NO_STEPWISE_FORM, message, node.span, f"it{where} {why}", expected)])
