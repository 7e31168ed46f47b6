"""What generation could not do: features of the image that reach it past all latents."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.diagnostics import names as codes
from hvdsl.compiler.graph import Graph, Node, Role
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic


def check_leaks(model: Model) -> Iterator[Diagnostic]:
    """Whatever depends on the image other than through a latent does not exist in generation."""
    graph = model.graph
    source: list[int | None] = []  # for each node that depends on the image: the operand by which it does
    for node in graph.nodes:
        operand: int | None = None
        role = node.operation.role
        if role is Role.IMAGE:
            operand = node.index
        elif role is Role.LATENT:
            if source[node.inputs[0].node] is not None:
                yield _leak(graph, source, graph.nodes[node.inputs[0].node], "the prior of a latent")
        else:
            for edge in node.inputs:
                if source[edge.node] is not None:
                    operand = edge.node
                    break
        source.append(operand)
    if source[graph.output.node] is not None:
        yield _leak(graph, source, graph.nodes[graph.output.node], "the output")


def _leak(graph: Graph, source: list[int | None], end: Node, what: str) -> Diagnostic:
    path, node = [end], end
    while node.role is not Role.TAP and (before := source[node.index]) is not None and before != node.index:
        node = graph.nodes[before]
        path.append(node)
    steps = " -> ".join(f"`{n.operation.name}` (line {n.span.line})" for n in reversed(path[-6:]))
    reader = path[-2] if len(path) > 1 else path[-1]
    return Diagnostic(
        codes.LEAK,
        f"an encoder feature reaches {what} without a latent between",
        reader.span,
        f"{steps}{' -> …' if len(path) > 6 else ''}",
        "encoder features in posteriors only",
        "what is generated cannot depend on the image: use the feature in `posterior …`, and `z` below it",
    )
