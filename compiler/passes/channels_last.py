"""Store maps channel by channel within each pixel where convolutions gain by it.

    encoder { 16: enc -> tap }                   decoder { 16: learned -> { x + (… -> conv -> …) } -> layer }
    ==>
    encoder { 16: enc -> channels_last -> tap }  decoder { 16: learned -> channels_last -> { … } -> layer }

On a CPU convolutions are faster on that layout, 16-bit ones and depthwise ones most. The gain is lost where a map
leaves the layout: a sum of two layouts has that of its first operand, a concatenation of two has neither, and one
learned map is enough to turn all that follows. So the layout is chosen per region. It reaches to the section's end, and
begins with the first row that holds a depthwise convolution; in a section whose convolutions are all dense, with
stride and dilation 1, with the first of them. (Dense ones with a stride gain little, and oneDNN 3.12 has faults in
them: with 1x1 kernels, fewer than 16 channels and maps of 64 x 64 it writes beyond its memory.) What enters is
converted once, taps where they are published, maps where they are made, and layers keep the layout of what they are
given, so that nothing inside is converted again and no sum meets two layouts. Values agree to rounding, since sums run
in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.convolutions import CONV, UPCONV
from hvdsl.compiler.catalogue.reshaping import CHANNELS_LAST
from hvdsl.compiler.catalogue.table import Layout, Needs
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Node, Role, Shape
from hvdsl.compiler.passes.draft import Draft


def channels_last(graph: Graph) -> Graph:
    """Convert what enters each region: taps, the values of earlier rows, and the maps that are made in the region."""
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
            elif _enters(source, value, own, draft):
                _convert(draft, value, [node for node in readers if value in node.inputs], section)
    return draft.graph()


def _sections(draft: Draft) -> list[GraphScope]:
    return [member for member in draft.root.members if isinstance(member, GraphScope)]


def _region(section: GraphScope) -> list[Node | GraphScope]:
    """The members of a section from the first on that holds a convolution that gains by the layout."""
    nodes = list(section.nodes())
    gaining = {node.index for node in nodes if node.operation.layout is Layout.CHANNELS_LAST}
    if not gaining and all(_is_plain(node) for node in nodes):
        gaining = {node.index for node in nodes if node.operation is CONV}
    for i, member in enumerate(section.members):
        if any(node.index in gaining for node in _nodes(member)):
            return section.members[i:]
    return []


def _is_plain(node: Node) -> bool:
    """Whether a node is no convolution but a dense one at every position."""
    if node.operation is CONV:
        return node.args["groups"] == 1 and node.args["stride"] == node.args["dilation"] == (1, 1)
    return node.operation is not UPCONV


def _enters(source: Node, value: Edge, own: set[int], draft: Draft) -> bool:
    """Whether a value comes to a region in another layout: from outside, or as a map that is made there.

    What is made of maps that have both layouts, such as the image of one channel, begins anew.
    """
    if source.operation.layout is Layout.FREE or _has_both(source.shapes[value.port]):
        return False
    made = all(_has_both(draft.nodes[v.node].shapes[v.port]) for v in source.inputs)
    return source.index not in own or made or source.operation.needs is Needs.SIZE


def _has_both(shape: Shape) -> bool:
    """Whether a map lies in memory in both layouts: it has one channel, or one position."""
    return shape[0] == 1 or shape[1:] == (1, 1)


def _convert_tap(draft: Draft, tap: Node, inside: set[int]) -> None:
    """Publish in the layout, unless what is published has it; outside the regions all go on with what there was."""
    published = tap.inputs[0]
    if (
        _has_both(tap.shapes[0])
        or len(tap.inputs) > 1
        or published.node in inside
        or draft.nodes[published.node].operation is CHANNELS_LAST
    ):
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
