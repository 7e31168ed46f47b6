"""What of a graph its output and its objective depend on: all else computes for nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.graph import Graph, Node, Role
from hvdsl.compiler.model import Model


def reaching(graph: Graph, ends: Iterable[int]) -> frozenset[int]:
    """The nodes that any of `ends` depends on, themselves included; a latent depends on its prior and posterior."""
    reached = set(ends)
    for node in reversed(graph.nodes):
        if node.index in reached and node.operation.needs is Needs.VALUES:
            reached.update([edge.node for edge in node.inputs])
    return frozenset(reached)


def sees_image(graph: Graph) -> frozenset[int]:
    """The nodes that depend on the image other than through a latent of the decoder."""
    seeing: set[int] = set()
    for node in graph.nodes:
        operation = node.operation
        if operation.role is Role.IMAGE:
            seeing.add(node.index)
        elif operation.role is not Role.LATENT and operation.needs is Needs.VALUES:
            for edge in node.inputs:
                if edge.node in seeing:
                    seeing.add(node.index)
                    break
    return frozenset(seeing)


def untrained(model: Model) -> Iterator[tuple[str, Node]]:
    """Each trained parameter that can get no gradient, by its path, and a node that owns it."""
    graph = model.graph
    ends = (graph.output.node, *(latent.node for latent in graph.latents))  # a rate, even where nothing reads them
    trained = set(_paths(graph.nodes[i] for i in reaching(graph, ends)))
    for node in graph.nodes:
        for path in _paths([node]):
            if path not in trained:
                trained.add(path)
                yield path, node


def _paths(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        for parameter in node.parameters:
            if parameter.trainable:
                yield node.parameter_path(parameter.role)
