"""A copy of a graph that may be changed, and numbered anew when it is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from hvdsl.compiler.graph import Edge, Graph, GraphLatent, GraphScope, Node, NormalizingFlow


class Draft:
    """Nodes keep their indices, and new ones get further indices, until `graph()` numbers all in order of execution."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.nodes: dict[int, Node] = {}
        self._copies: dict[int, GraphScope] = {}
        self.root = self._copy(graph.root, None)
        self._output = graph.output
        self._next = len(graph.nodes)

    def _copy(self, scope: GraphScope, parent: GraphScope | None) -> GraphScope:
        if scope.kind == "shared" and scope.parent is not None:
            parent = self._copies[id(scope.parent)]  # where it is declared; it stands in another scope
        own = replace(scope, parent=parent, members=[])
        self._copies[id(scope)] = own
        for member in scope.members:
            if isinstance(member, GraphScope):
                own.members.append(self._copy(member, own))
            else:
                self.nodes[member.index] = replace(member, scope=own)
                own.members.append(self.nodes[member.index])
        return own

    def readers(self) -> dict[Edge, list[Node]]:
        """Who takes each value, in order of execution."""
        readers: dict[Edge, list[Node]] = defaultdict(list)
        for node in self.root.nodes():
            for value in node.inputs:
                readers[value].append(node)
        return readers

    def is_shared(self, node: Node) -> bool:
        """Whether a node is part of a shared instance: what is done to one use has to be done to all."""
        scope: GraphScope | None = node.scope
        while scope is not None and scope.kind != "shared":
            scope = scope.parent
        return scope is not None

    def insert(self, node: Node, before: Node | GraphScope) -> Edge:
        """Put a node with one output before another member of `node.scope`; returns its value."""
        node.index, self._next = self._next, self._next + 1
        self.nodes[node.index] = node
        place = next(i for i, member in enumerate(node.scope.members) if member is before)
        node.scope.members.insert(place, node)
        return Edge(node.index)

    def remove(self, node: Node) -> None:
        """Take out a node that nothing reads any more."""
        node.scope.members = [member for member in node.scope.members if member is not node]
        del self.nodes[node.index]

    def redirect(self, instead: Mapping[Edge, Edge]) -> None:
        """Let every reader of some values take others in their place."""
        if instead:
            for node in self.nodes.values():
                if any(value in instead for value in node.inputs):
                    node.inputs = tuple(instead.get(value, value) for value in node.inputs)

    @staticmethod
    def _renumbered(group: GraphLatent, latent: Node, number: Mapping[int, int]) -> GraphLatent:
        prior, posterior = latent.inputs[:2]
        sample = None if group.sample is None else number[group.sample]
        flow = NormalizingFlow(tuple(number[i] for i in group.flow.steps)) if group.flow else None
        return replace(group, node=latent.index, prior=prior, posterior=posterior, sample=sample, flow=flow)

    def graph(self) -> Graph:
        nodes = list(self.root.nodes())
        number = {node.index: i for i, node in enumerate(nodes)}
        for i, node in enumerate(nodes):
            node.inputs = tuple(Edge(number[v.node], v.port) for v in node.inputs)
            node.index = i
        latents = [self._renumbered(group, nodes[number[group.node]], number) for group in self._graph.latents]
        output = Edge(number[self._output.node], self._output.port)
        return Graph(self._graph.name, nodes, self.root, latents, output, self._graph.image, self._graph.likelihood)
