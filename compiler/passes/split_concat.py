"""Compute a shared activation once, by splitting a convolution over a concatenation.

    gelu(x) -> conv_p;  concat(x, skip) -> gelu -> conv_q
    ==>
    g = gelu(x);  h = gelu(skip);  g -> conv_p;  conv_q(g, h)

`conv_q(g, h)` adds the convolutions of its inputs with their parts of the weight. An elementwise function of a
concatenation is the concatenation of the function's values, and convolution is linear, so that nothing changes
but rounding. It saves memory, not time: neither the concatenation nor its activation is kept for the backward
pass, and `gelu(skip)` is kept once for all that read the tap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from hvdsl.compiler.catalogue.convolutions import CONV
from hvdsl.compiler.catalogue.joins import CONCAT
from hvdsl.compiler.catalogue.table import Locality, Operation, Saves
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Literal, Node, Role, Term
from hvdsl.compiler.passes.draft import Draft


class _Activated(NamedTuple):
    """A function of a value, wanted in a section. What the encoder computes of a tap it computes for itself."""

    section: str
    value: Edge
    operation: Operation
    args: tuple[tuple[str, Literal], ...]


class _Site(NamedTuple):
    concat: Node
    activation: Node
    conv: Node

    def parts(self) -> list[_Activated]:
        return [_activated(value, self.activation) for value in self.concat.inputs]


def split_concat(graph: Graph) -> Graph:
    """Split each such convolution of which at least one part's activation is wanted elsewhere too."""
    draft = Draft(graph)
    readers = draft.readers()
    users: dict[_Activated, list[Node]] = defaultdict(list)
    sites: list[_Site] = []
    for node in draft.root.nodes():
        if draft.is_shared(node):
            continue
        if _is_activation(node):
            users[_activated(node.inputs[0], node)].append(node)
        site = _site(node, readers)
        if site is not None and not any(_is_activation(draft.nodes[v.node]) for v in node.inputs):
            sites.append(site)
            for part in site.parts():
                users[part].append(site.concat)
    sites = [s for s in sites if any(len(users[p]) > 1 for p in s.parts())]
    places = {part: _place(part, users[part], draft) for site in sites for part in site.parts()}
    sites = [s for s in sites if all(places[p] is not None for p in s.parts())]
    shared: dict[_Activated, Edge] = {}
    instead: dict[Edge, Edge] = {}
    for site in sites:
        parts = [_share(part, users[part], places, site, draft, shared, instead) for part in site.parts()]
        site.conv.inputs = tuple(parts)
    draft.redirect(instead)
    for site in sites:
        draft.remove(site.activation)
        draft.remove(site.concat)
    return draft.graph()


def _is_activation(node: Node) -> bool:
    """Whether a node is a pure function of each element whose result is worth sharing: something is kept for it."""
    operation = node.operation
    pure = operation.locality is Locality.ELEMENT and operation.expression is not None and len(node.inputs) == 1
    return pure and operation.role is Role.OPERATION and operation.saves is not Saves.NOTHING


def _activated(value: Edge, node: Node) -> _Activated:
    return _Activated(node.scope.path.split(".")[0], value, node.operation, tuple(node.args.items()))


def _site(node: Node, readers: Mapping[Edge, list[Node]]) -> _Site | None:
    """`concat -> activation -> conv`, with no other reader in between."""
    if node.operation is not CONCAT or len(set(node.inputs)) != len(node.inputs):
        return None
    activation = _only(readers[Edge(node.index)])
    if activation is None or not _is_activation(activation):
        return None
    conv = _only(readers[Edge(activation.index)])
    if conv is None or conv.operation is not CONV:
        return None
    plain = conv.args["groups"] == 1 and conv.args["mask"] is None and conv.args["pad"] == Term("same")
    return _Site(node, activation, conv) if plain else None


def _only(nodes: list[Node]) -> Node | None:
    return nodes[0] if len(nodes) == 1 else None


def _place(part: _Activated, users: list[Node], draft: Draft) -> tuple[GraphScope, Node | GraphScope] | None:
    """Where to compute what all users share: the innermost scope around them, before the member that holds the first.

    For an encoder's feature that is a row, so that all instances in it look alike, be they one or many. None
    if the value itself comes into being inside that member.
    """
    above = [_scopes(user) for user in users]
    common = [s for s in above[0] if all(any(s is o for o in other) for other in above[1:])]
    source = draft.nodes[part.value.node]
    rows = [s for s in common if s.kind == "row"] if source.role is Role.TAP else []
    scope = next(iter(rows), next(s for s in common if s.kind != "repeat"))
    inside: Node | GraphScope = users[0]
    while _holder(inside) is not scope:
        inside = _holder(inside)
    return None if source is inside or any(s is inside for s in _scopes(source)) else (scope, inside)


def _scopes(node: Node) -> list[GraphScope]:
    """From the innermost outwards."""
    scopes: list[GraphScope] = []
    scope: GraphScope | None = node.scope
    while scope is not None:
        scopes.append(scope)
        scope = scope.parent
    return scopes


def _holder(member: Node | GraphScope) -> GraphScope:
    holder = member.scope if isinstance(member, Node) else member.parent
    if holder is None:
        raise AssertionError("the model has no holder")
    return holder


def _share(
    part: _Activated,
    users: list[Node],
    places: Mapping[_Activated, tuple[GraphScope, Node | GraphScope] | None],
    site: _Site,
    draft: Draft,
    shared: dict[_Activated, Edge],
    instead: dict[Edge, Edge],
) -> Edge:
    """Compute a part once; what its other users gave is to be taken from here."""
    place = places[part]
    if place is None:
        raise AssertionError("sites without a place are left alone")
    if part not in shared:
        scope, before = place
        source = draft.nodes[part.value.node]
        shape = source.shapes[part.value.port]
        node = replace(site.activation, inputs=(part.value,), shapes=(shape,), scope=scope, names=())
        shared[part] = draft.insert(node, before)
        for user in users:
            if user.operation is part.operation and user.index in draft.nodes and user is not site.activation:
                instead[Edge(user.index)] = shared[part]
                draft.remove(user)
    return shared[part]
