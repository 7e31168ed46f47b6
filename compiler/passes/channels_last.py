"""Store maps channel by channel within each pixel where depthwise convolutions work.

    encoder { 16: enc -> tap }                   decoder { 16: learned -> { x + (… -> depthwise -> …) } -> layer }
    ==>
    encoder { 16: enc -> channels_last -> tap }  decoder { 16: learned -> channels_last -> { … } -> layer }

The forward pass of a depthwise convolution or a batch norm is several times faster on that layout, and a 1x1
convolution is one matrix product; their backward passes gain little or lose, and wide dense convolutions lose. So the
layout is chosen per region: from the first row of a section that holds a depthwise convolution to the section's end.
What enters is converted once, taps where they are published, and layers keep the layout of what they are given, so
that nothing inside is converted again and no sum meets two layouts. Values agree to rounding, since sums run in
another order.
"""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.reshaping import CHANNELS_LAST
from hvdsl.compiler.catalogue.table import Layout
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Node, Role
from hvdsl.compiler.passes.draft import Draft


def channels_last(graph: Graph) -> Graph:
    """Convert what enters each region: taps, the values of earlier rows, and the region's own learned maps."""
    draft = Draft(graph)
    regions = {id(section): _region(section) for section in _sections(draft)}
    inside = {node.index for region in regions.values() for member in region for node in _nodes(member)}
    for section in _sections(draft):
        readers = [node for member in regions[id(section)] for node in _nodes(member)]
        own = {node.index for node in readers}
        for value in dict.fromkeys(v for node in readers for v in node.inputs):
            source = draft.nodes[value.node]
            if source.role is Role.TAP:
                _convert_tap(draft, source, inside)
            elif source.operation.distribution is not None:
                continue  # no map, but what one is drawn from
            elif (source.index not in own or not source.inputs) and source.operation.layout is not Layout.FREE:
                _convert(draft, value, [node for node in readers if value in node.inputs], section)
    return draft.graph()


def _sections(draft: Draft) -> list[GraphScope]:
    return [member for member in draft.root.members if isinstance(member, GraphScope)]


def _region(section: GraphScope) -> list[Node | GraphScope]:
    """The members of a section from the first on that holds a depthwise convolution."""
    for i, member in enumerate(section.members):
        if any(node.operation.layout is Layout.CHANNELS_LAST for node in _nodes(member)):
            return section.members[i:]
    return []


def _convert_tap(draft: Draft, tap: Node, inside: set[int]) -> None:
    """Publish in the layout, unless what is published has it; outside the regions all go on with what there was."""
    published = tap.inputs[0]
    if len(tap.inputs) > 1 or published.node in inside or draft.nodes[published.node].operation is CHANNELS_LAST:
        return
    for node in draft.nodes.values():
        if node.index not in inside:
            node.inputs = tuple(published if v == Edge(tap.index) else v for v in node.inputs)
    tap.inputs = (_insert(draft, published, tap.scope, tap),)


def _convert(draft: Draft, value: Edge, readers: Sequence[Node], section: GraphScope) -> None:
    """Give the readers of a value the converted one, made in the row of the first: so rows of like cells stay alike.

    A learned map that a cell has for itself is converted there.
    """
    source = draft.nodes[value.node]
    scope, before = section, _holder(section, readers[0])
    while isinstance(before, GraphScope) and (before.kind == "row" or any(node is source for node in before.nodes())):
        scope, before = before, _holder(before, readers[0])
    new = _insert(draft, value, scope, before)
    for node in readers:
        node.inputs = tuple(new if v == value else v for v in node.inputs)


def _insert(draft: Draft, value: Edge, scope: GraphScope, before: Node | GraphScope) -> Edge:
    shape = draft.nodes[value.node].shapes[value.port]
    span = draft.nodes[value.node].span
    return draft.insert(Node(-1, CHANNELS_LAST, {}, (value,), (shape,), scope, span), before)


def _holder(scope: GraphScope, node: Node) -> Node | GraphScope:
    """The member that is the node or holds it."""
    return next(member for member in scope.members if any(held is node for held in _nodes(member)))


def _nodes(member: Node | GraphScope) -> Sequence[Node]:
    return [member] if isinstance(member, Node) else list(member.nodes())
