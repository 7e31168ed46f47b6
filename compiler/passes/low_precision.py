"""Compute in 16 bits, under mixed precision, what products alone read.

    x -> gelu -> conv
    ==>
    x -> low_precision -> gelu -> conv

What adds up in float32, such as a hierarchy's stream, is read by products through an activation, whose result they
would cast. Cast before, half of the bytes are read, written and kept, and several readers share one cast. The rule is
local to a recipe, so that all of its instances stay alike: the readers are within it, and the tensor is no product's
result of the same recipe, which is in 16 bits already. Only activations that move no further than their input do are
given it rounded. In float32 the new operation is its input.
"""

from __future__ import annotations

from hvdsl.compiler.catalogue.activations import LOW_PRECISION
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Node, Role
from hvdsl.compiler.passes.draft import Draft


def cast_before_activations(graph: Graph) -> Graph:
    """Cast the inputs of activations that products of the same recipe alone read."""
    draft = Draft(graph)
    readers = draft.readers()
    low: set[int] = set()  # nodes whose results are in 16 bits within their recipe
    for node in list(draft.root.nodes()):
        call = _call(node.scope)
        arrives_low = any(_is_low(value, call, low, draft) for value in node.inputs)
        if node.operation.steady and not arrives_low and _feeds_products(readers[Edge(node.index)], call):
            cast = Node(-1, LOW_PRECISION, {}, node.inputs, node.shapes, node.scope, node.span)
            node.inputs = (draft.insert(cast, node),)
            low.add(node.index)
        elif _is_product(node) or (arrives_low and (node.operation.view or node.operation.steady)):
            low.add(node.index)
    return draft.graph()


def _is_low(value: Edge, call: GraphScope, low: set[int], draft: Draft) -> bool:
    return value.node in low and _call(draft.nodes[value.node].scope) is call


def _feeds_products(readers: list[Node], call: GraphScope) -> bool:
    return bool(readers) and all(_is_product(reader) and _within(reader.scope, call) for reader in readers)


def _is_product(node: Node) -> bool:
    return node.role is Role.OPERATION and node.operation.is_product


def _call(scope: GraphScope) -> GraphScope:
    """The innermost recipe or section around, which hands on float32."""
    while scope.parent is not None and scope.kind not in ("recipe", "shared", "section"):
        scope = scope.parent
    return scope


def _within(scope: GraphScope | None, around: GraphScope) -> bool:
    while scope is not None and scope is not around:
        scope = scope.parent
    return scope is around
