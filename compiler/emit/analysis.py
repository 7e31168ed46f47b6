"""Which nodes run at all, which only serve the posterior, and which tensors cross a recipe's border."""

from __future__ import annotations

from dataclasses import dataclass

from hvdsl.compiler.graph import Edge, Graph, Node, Role


@dataclass(frozen=True, slots=True)
class Uses:
    """`live`: nodes that the output or a latent depends on. `generative`: nodes that run without an image.

    `needed`: of the other live nodes, the first and last latent whose posterior depends on them.
    """

    live: frozenset[int]
    generative: frozenset[int]
    needed: dict[int, tuple[int, int]]


def uses(graph: Graph) -> Uses:
    """Walk back from the output, with and without the posteriors."""
    number = {group.node: i for i, group in enumerate(graph.latents)}
    generative: set[int] = {graph.output.node} | set(number)
    live: set[int] = {graph.output.node} | set(number)
    needed: dict[int, tuple[int, int]] = {}
    for node in reversed(graph.nodes):
        own = node.index
        if own in generative:
            prior = node.inputs[:1] if own in number else node.inputs
            generative.update(v.node for v in prior)
        if own in live:
            live.update(v.node for v in node.inputs)
    for node in reversed(graph.nodes):
        if node.index not in live:
            continue
        own_range = needed.get(node.index)
        if node.index in number:
            own_range = (number[node.index], number[node.index])
        if own_range is None:
            continue
        for value in node.inputs:
            if value.node not in generative:
                low, high = needed.get(value.node, own_range)
                needed[value.node] = min(low, own_range[0]), max(high, own_range[1])
    return Uses(frozenset(live), frozenset(generative), needed)


def is_tap(graph: Graph, value: Edge) -> bool:
    return graph.nodes[value.node].role is Role.TAP


def given_name(node: Node) -> str:
    """What `forward` calls an argument: a code map by its latent."""
    name = node.args.get("name")
    return name if isinstance(name, str) else node.operation.name


def published(node: Node) -> Edge:
    """The output of a tap that crosses to the decoder: of a latent drawn on the way up, its posterior."""
    return Edge(node.index, len(node.shapes) - 1)


def tap_key(node: Node) -> tuple[str, int, int]:
    """Taps of one name and resolution belong together."""
    given = node.args.get("name")
    name = given if isinstance(given, str) and given else "skip"
    _, height, width = node.shapes[0]
    return (f"{name}_posterior" if len(node.shapes) > 1 else name), height, width
