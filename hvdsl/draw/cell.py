"""The inside of a recipe: what a cell computes; of a group its prior, posterior, flow and merge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

from hvdsl.compiler.catalogue.table import OperationKind
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Node, Role
from hvdsl.draw import style
from hvdsl.draw.folding import ScopeFolder, tap_label
from hvdsl.draw.labels import operation, quantity, shape, silent
from hvdsl.draw.layered import Arrow, Look, Vertex, layered
from hvdsl.draw.picture import Picture
from hvdsl.errors import UsageError
from hvdsl.render.numbers import abbreviated

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model

MOST = 400  # operations of a recipe that are drawn: more is no figure


def cell(model: Model, name: str) -> Picture:
    """Return the drawing of a recipe, as the first of its uses with the most inputs has it.

    Raises:
        UsageError: the model uses no recipe of that name, or it is too large for a figure.
    """
    uses = [(graph, scope) for graph in (model.graph, *model.priors.values()) for scope in recipes(graph.root)]
    own = [(graph, scope) for graph, scope in uses if scope.name == name]
    if not own:
        known = ", ".join(f"`{n}`" for n in dict.fromkeys(s.name for _, s in uses))
        raise UsageError(f"`{model.settings.model}` uses no recipe `{name}`; it uses {known or 'none'}")
    graph, scope = max(own, key=lambda use: len(_entering(use[1])))
    nodes = list(scope.nodes())
    if len(nodes) > MOST:
        raise UsageError(f"`{name}` is {len(nodes):,} operations, which no figure holds: draw a recipe inside of it")
    owned = sum(p.size for node in nodes for p in node.parameters if p.trainable)
    kind = scope.definition[0] if scope.definition else "recipe"
    place = PurePath((scope.definition[1] if scope.definition else scope.span).source.name).name
    facts = f"{kind} of {place} · {quantity(len(own), 'use')} · {abbreviated(owned)} parameters\nshown: {scope.path}"
    return inside(graph, scope, facts)


def inside(graph: Graph, scope: GraphScope, facts: str) -> Picture:
    """Return the drawing of one instance of a recipe."""
    drawing = _Drawing(graph, scope)
    ink = style.DECODER if scope.definition and scope.definition[0] == "group" else style.ENCODER
    return layered(scope.name, facts, drawing.vertices, drawing.arrows, ink)


def _entering(scope: GraphScope) -> set[Edge]:
    """Return the tensors that a recipe takes from outside."""
    own = {node.index for node in scope.nodes()}
    return {edge for node in scope.nodes() for edge in node.inputs if edge.node not in own}


def recipes(scope: GraphScope) -> Iterator[GraphScope]:
    """Every use of a recipe inside a scope, in order of execution."""
    for member in scope.members:
        if isinstance(member, GraphScope):
            if member.kind == "recipe":
                yield member
            yield from recipes(member)


def _section(node: Node) -> str:
    return node.scope.path.partition(".")[0]


class _Drawing:
    """Turns the nodes of a scope into vertices and arrows; plain operations in a row become one box."""

    def __init__(self, graph: Graph, scope: GraphScope) -> None:
        self._graph, self._folder, self._scope = graph, ScopeFolder(graph), scope
        self._inside = {node.index for node in scope.nodes()}
        self._owner: dict[int, Vertex] = {}
        self._entered: dict[tuple[int, int], Vertex] = {}
        self.vertices: list[Vertex] = []
        self.arrows: list[Arrow] = []
        self._visit(scope)
        self._leave(scope)
        self._join_chains()

    def _visit(self, scope: GraphScope) -> None:
        for member in scope.members:
            if isinstance(member, Node):
                self._node(member)
            elif member.kind in ("recipe", "shared", "repeat"):
                self._folded(member)
            else:
                self._visit(member)

    def _folded(self, scope: GraphScope) -> None:
        """A recipe inside, or steps that repeat: one box."""
        nodes = list(scope.nodes())
        pieces = self._folder.pieces_of(scope)
        lines = tuple(f"{i.title}({i.arguments})" if i.arguments else i.title or i.kind.value for i in pieces)
        counts = [f" × {i.count}" if i.count > 1 else "" for i in pieces]
        names = tuple(line.replace(" | ", ", ") + count for line, count in zip(lines, counts, strict=True))
        owned = sum(p.size for node in nodes for p in node.parameters if p.trainable and p.role not in node.shared)
        detail = (f"{nodes[-1].shapes[0][0]} ch" + (f" · {abbreviated(owned)}" if owned else ""),)
        marks = tuple(f"{m.name}: {shape(*m.shapes[0])}" for i in pieces for leaf in i.leaves() for m in leaf.marks)
        vertex = self._add(Vertex((*names, *marks, *detail), Look.RECIPE, scope.path))
        own = {node.index for node in nodes}
        for node in nodes:
            self._owner[node.index] = vertex
            for edge in node.inputs:
                if edge.node not in own:
                    self._connect(edge, vertex)

    def _node(self, node: Node) -> None:
        tensors = list(node.inputs)
        if node.role is Role.LATENT:
            name = str(node.args.get("name") or "z")
            vertex = self._add(Vertex((name,), Look.LATENT, f"latent {name}", (shape(*node.shapes[0]),)))
            self._owner[node.index] = vertex
            group = next(g for g in self._graph.latents if g.node == node.index)
            if group.prior is not None:
                self._connect(group.prior, vertex, "prior")
            # After a flow the sample comes from its last step; the density that it began with is where that begins.
            for edge in tensors[2:] or ([] if group.posterior is None else [group.posterior]):
                self._connect(edge, vertex, "posterior")
            return
        passes = silent(node) or node.operation.kind is OperationKind.DISTRIBUTION
        if passes and len(tensors) == 1 and node.role is Role.OPERATION:
            source = self._source(tensors[0])
            if source is not None:
                self._owner[node.index] = source
                return
        text = f"tap {tap_label(node)}".strip() if node.role is Role.TAP else operation(node)
        text = text or node.operation.name.replace("_", " ")
        out = shape(*node.shapes[0])
        if node.role is Role.TAP:
            vertex = self._add(Vertex((text, out), Look.END, f"{text}, {out}"))
        else:
            vertex = self._add(Vertex((text if tensors else f"{text} {out}",), Look.STEP, f"{text}, out {out}"))
        self._owner[node.index] = vertex
        for edge in tensors:
            self._connect(edge, vertex)

    def _source(self, edge: Edge) -> Vertex | None:
        if edge.node in self._inside:
            return self._owner.get(edge.node)
        key = (edge.node, edge.port)
        if key not in self._entered:
            self._entered[key] = vertex = Vertex((self._name(edge), shape(*self._graph.shape(edge))), Look.END)
            self.vertices.insert(len(self._entered) - 1, vertex)
        return self._entered[key]

    def _name(self, edge: Edge) -> str:
        """Return what the recipe calls a tensor from outside: `x`, a parameter, `skip`, a condition, its own name."""
        node, own = self._graph.nodes[edge.node], self._scope.names.get(edge, "")
        if own == "x" or own in self._scope.parameters:
            return own
        if node.role is Role.TAP:
            return f"skip({tap_label(node)})" if tap_label(node) not in ("", "skip") else "skip"
        if node.role is Role.GIVEN:
            return str(node.args["name"])
        return own or next(iter(node.names[edge.port : edge.port + 1]), None) or "in"

    def _connect(self, edge: Edge, vertex: Vertex, label: str = "") -> None:
        source = self._source(edge)
        known = any(a.source is source and a.target is vertex and a.label == label for a in self.arrows)
        if source is not None and source is not vertex and not known:
            self.arrows.append(Arrow(source, vertex, label, dashed=label == "posterior"))

    def _add(self, vertex: Vertex) -> Vertex:
        self.vertices.append(vertex)
        return vertex

    def _leave(self, scope: GraphScope) -> None:
        """What is used outside leaves at the bottom."""
        leaving: dict[Vertex, Node] = {}
        for node in self._graph.nodes:
            for edge in node.inputs:
                source = self._graph.nodes[edge.node]
                if edge.node not in self._owner or node.index in self._inside:
                    continue
                if source.role is not Role.TAP or _section(source) == _section(node):  # a tap is an end of its own
                    leaving.setdefault(self._owner[edge.node], source)
        if self._graph.output.node in self._inside:
            leaving.setdefault(self._owner[self._graph.output.node], self._graph.nodes[self._graph.output.node])
        if leaving:
            shapes = dict.fromkeys(shape(*node.shapes[0]) for node in leaving.values())
            out = self._add(Vertex(("out", *shapes), Look.END))
            self.arrows += [Arrow(vertex, out) for vertex in leaving]

    def _join_chains(self) -> None:
        """Join plain operations that follow each other alone into one box."""
        for vertex in list(self.vertices):
            out = [a for a in self.arrows if a.source is vertex]
            if vertex.look is not Look.STEP or len(out) != 1 or out[0].target.look is not Look.STEP:
                continue
            target = out[0].target
            if sum(a.target is target for a in self.arrows) != 1 or out[0].label:
                continue
            target.lines = (*vertex.lines, *target.lines)
            self.arrows.remove(out[0])
            self.arrows = [Arrow(a.source, target, a.label, a.dashed) if a.target is vertex else a for a in self.arrows]
            self.vertices.remove(vertex)
