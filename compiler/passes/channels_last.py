"""Store maps channel by channel within each pixel where depthwise convolutions work.

    recipe(x) { … -> depthwise -> … }
    ==>
    recipe(x) { channels_last(x) -> … -> depthwise -> … }

A depthwise convolution and a batch norm are several times faster on that layout, dense convolutions on the CPU slower.
So the layout is chosen per region: a recipe that holds a depthwise convolution takes what leads to it in this layout,
layers keep the layout of what they are given, and where the recipe's result is added to another map the other's
layout prevails. Values agree to rounding, since sums run in another order.
"""

from __future__ import annotations

from collections.abc import Iterable

from hvdsl.compiler.graph import Graph, Node, Scope
from hvdsl.compiler.passes.draft import Draft


def channels_last(graph: Graph) -> Graph:
    """Convert the maps that enter a recipe and reach a depthwise convolution in it."""
    draft = Draft(graph)
    regions: dict[int, tuple[Scope, list[Node]]] = {}
    for node in draft.root.nodes():
        if node.op == "depthwise":
            scope = _recipe(node)
            regions.setdefault(id(scope), (scope, []))[1].append(node)
    for scope, depthwise in regions.values():
        _convert(draft, scope, depthwise)
    return draft.graph()


def _convert(draft: Draft, scope: Scope, depthwise: Iterable[Node]) -> None:
    inside = {node.index: node for node in scope.nodes()}
    upstream: set[int] = set()
    waiting = [node.index for node in depthwise]
    while waiting:
        index = waiting.pop()
        if index in inside and index not in upstream:
            upstream.add(index)
            waiting += [value.node for value in inside[index].inputs]
    readers = [node for node in inside.values() if node.index in upstream]
    for value in dict.fromkeys(v for node in readers for v in node.inputs if v.node not in inside):
        first = next(node for node in readers if value in node.inputs)
        shape = draft.nodes[value.node].shapes[value.port]
        converted = Node(-1, "channels_last", {}, (value,), (shape,), first.scope, first.span)
        new = draft.insert(converted, first)
        for node in readers:
            node.inputs = tuple(new if v == value else v for v in node.inputs)


def _recipe(node: Node) -> Scope:
    """The innermost recipe or use of a shared instance around a node, or else its section.

    A use converts what enters it by itself, so that all uses of the instance stay the same computation.
    """
    scope = node.scope
    while scope.kind not in ("recipe", "shared", "section", "model") and scope.parent is not None:
        scope = scope.parent
    return scope
