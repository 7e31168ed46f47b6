"""What of a graph its output and its objective depend on: all else computes for nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hvdsl.compiler.catalogue.activations import DROPOUT
from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.catalogue.norms import BATCH_NORM
from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.graph import Graph, LatentGroup, Node, Role
from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import Objective


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


def learning(model: Model) -> frozenset[int]:
    """The nodes that the objective's gradient comes to, whatever only generation reads left out.

    Rates without a weight and quantizers without a commitment give none: what only they read never learns.
    """
    graph, objective = model.graph, model.settings.objective
    found = {graph.output.node}
    for latent in graph.latents:
        family = LATENT_FAMILIES[latent.family]
        if family.quantized:
            found.add(latent.prior.node)  # whose codebook has a loss of its own
            found |= {latent.posterior.node} if family.commits and objective.commitment != 0 else set()
        elif weighs(latent, objective):
            found |= {edge.node for edge in graph.nodes[latent.node].inputs}
    priors = {latent.node: latent.prior for latent in graph.latents}
    for node in reversed(graph.nodes):
        if node.index in found and node.operation.needs is Needs.VALUES:
            found |= {edge.node for edge in node.inputs if edge != priors.get(node.index)}  # training draws from others
    return frozenset(found)


def weighs(latent: LatentGroup, objective: Objective) -> bool:
    """Whether the rate of a latent is trained at all."""
    own = latent.settings
    return objective.bound == "iwae" or (objective.beta != 0 and (own is None or own.weight != 0))


def still_norms(graph: Graph) -> Iterator[Node]:
    """Batch norms of one position that is alike in every image: they give their bias, and their gain never learns."""
    varying: set[int] = set()
    for node in graph.nodes:
        random = node.operation is DROPOUT or node.role not in (Role.OPERATION, Role.TAP, Role.OUTPUT)
        if random or any(edge.node in varying for edge in node.inputs):
            varying.add(node.index)
        elif node.operation is BATCH_NORM and graph.shape(node.inputs[0])[1:] == (1, 1):
            yield node


def untrained(model: Model) -> Iterator[tuple[str, Node]]:
    """Each trained parameter that can get no gradient, by its path, and a node that owns it."""
    trained = set(_paths(model.graph.nodes[i] for i in learning(model)))
    for node in model.graph.nodes:
        for path in _paths([node]):
            if path not in trained:
                trained.add(path)
                yield path, node


def _paths(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        for parameter in node.parameters:
            if parameter.trainable:
                yield node.parameter_path(parameter.role)
