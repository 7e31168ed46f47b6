"""From a scope of the graph (a row, a prior) to the pieces that its column shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hvdsl.compiler.catalogue import resampling
from hvdsl.compiler.catalogue.convolutions import UPCONV
from hvdsl.compiler.catalogue.joins import ADD
from hvdsl.compiler.catalogue.table import OperationKind
from hvdsl.compiler.graph import ENTRIES, Graph, GraphScope, Node, Role
from hvdsl.draw.labels import as_in_spec, operation, silent
from hvdsl.draw.pieces import Mark, Piece, PieceKind, add_mark, alike, fold_pattern, join


class ScopeFolder:
    """Folds the scopes of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._users: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for value in node.inputs:
                self._users.setdefault(value.node, []).append(node)
        self._aside = _of_conditions(graph)
        self._uses: dict[str, list[GraphScope]] = {}  # of each recipe
        self._collect(graph.root)

    def pieces(self, scope: GraphScope) -> list[Piece]:
        """Return the pieces of a row or prior, in order of execution."""
        latents = {str(node.args["name"]) for node in scope.nodes() if node.role is Role.LATENT}
        return self._folded(scope, latents)

    def pieces_of(self, scope: GraphScope) -> list[Piece]:
        """Return the pieces that stand for a recipe, a shared instance or a repeat in what holds it."""
        latents = {str(node.args["name"]) for node in scope.nodes() if node.role is Role.LATENT}
        return list(self._repeat(scope, latents)) if scope.kind == "repeat" else [self._recipe(scope)]

    def _folded(self, scope: GraphScope, latents: set[str]) -> list[Piece]:
        runs = _join_runs(list(self._pieces(scope, latents)))
        for piece in runs:
            piece.scale = self._scale(piece)
            piece.given = self._given(piece)
        return _fold_neighbours(runs)

    def _scale(self, piece: Piece) -> float:
        """Compare what leaves with the stream that enters: a condition beside it may be of any size."""
        outside = {node.index for node in piece.nodes} | self._aside
        entering = next((v for node in piece.nodes for v in node.inputs if v.node not in outside), None)
        return piece.nodes[-1].shapes[0][1] / self._graph.shape(entering)[1] if entering else 1.0

    def _given(self, piece: Piece) -> tuple[str, ...]:
        sources = [self._graph.nodes[value.node] for node in piece.nodes for value in node.inputs]
        return tuple(dict.fromkeys(str(node.args["name"]) for node in sources if node.role is Role.GIVEN))

    def _pieces(self, scope: GraphScope, latents: set[str]) -> Iterator[Piece]:
        for member in scope.members:
            if isinstance(member, Node):
                if member.role not in ENTRIES:
                    yield from self._node(member)
            elif member.kind in ("recipe", "shared"):
                yield self._recipe(member)
            elif member.kind == "repeat":
                yield from self._repeat(member, latents)
            elif member.kind == "binding" and member.name in latents:
                yield Piece(
                    PieceKind.LATENT, member.name, list(member.nodes()), marks=self._marks(member), scope=member
                )
            else:
                yield from self._pieces(member, latents)

    def _node(self, node: Node) -> Iterator[Piece]:
        if node.role is Role.LATENT:
            name = str(node.args["name"])
            yield Piece(PieceKind.LATENT, name, [node], marks=[self._mark(node)], scope=node.scope)
        elif node.role is Role.TAP:
            yield Piece(PieceKind.TAP, tap_label(node), [node], scope=node.scope)
        elif self._belongs_to_latent(node):
            owner = next(user for user in self._users[node.index] if user.role is Role.LATENT)
            yield Piece(PieceKind.LATENT, str(owner.args["name"]), [node], scope=node.scope)
        elif silent(node) or self._swallowed(node):
            yield Piece(PieceKind.OPERATIONS, "", [node], scope=node.scope)
        else:
            yield Piece(PieceKind.OPERATIONS, self._written(node), [node], scope=node.scope)

    def _recipe(self, scope: GraphScope) -> Piece:
        nodes, shared = list(scope.nodes()), scope.kind == "shared"
        arguments = "" if shared else self._arguments(scope)
        return Piece(
            PieceKind.RECIPE,
            scope.name,
            nodes,
            marks=self._marks(scope),
            scope=scope,
            arguments=arguments,
            shared=shared,
        )

    def _collect(self, scope: GraphScope) -> None:
        for member in scope.members:
            if isinstance(member, GraphScope):
                if member.kind == "recipe":
                    self._uses.setdefault(member.name, []).append(member)
                self._collect(member)

    def _arguments(self, scope: GraphScope) -> str:
        """Return the arguments in which the uses of a recipe differ, as this one has them: `k = 5×5, attn = yes`."""
        uses = self._uses[scope.name]
        differ = [p for p in scope.parameters if any(u.constants.get(p) != scope.constants.get(p) for u in uses)]
        return ", ".join(f"{name} = {as_in_spec(scope.constants[name])}" for name in differ if name in scope.constants)

    def _repeat(self, scope: GraphScope, latents: set[str]) -> Iterator[Piece]:
        turns = [self._folded(turn, latents) for turn in scope.members if isinstance(turn, GraphScope)]
        if len(turns) < 2 or any(fold_pattern(turn) != fold_pattern(turns[0]) for turn in turns):
            for turn in turns:
                yield from turn
            return
        first, *others = turns
        beside = scope.name == "parallel"
        alone = len(first) == 1 and first[0].kind is not PieceKind.FRAME
        for i, piece in enumerate(first):
            join(piece, [turn[i] for turn in others], counts=alone)
        if alone:
            first[0].beside = beside
            yield first[0]
        else:
            nodes = [node for piece in first for node in piece.nodes]
            yield Piece(PieceKind.FRAME, "", nodes, count=len(turns), children=first, scope=scope, beside=beside)

    def _marks(self, scope: GraphScope) -> list[Mark]:
        marks: list[Mark] = []
        for node in scope.nodes():
            if node.role is Role.LATENT or (node.role is Role.SAMPLE and self._in_encoder(node)):
                add_mark(marks, self._mark(node), counts=True)
        return marks

    def _mark(self, node: Node) -> Mark:
        name = node.names[0] if node.role is Role.SAMPLE and node.names else node.args.get("name")
        up = node.role is Role.SAMPLE or self._drawn_above(node)
        codes = next((self._classes(self._graph.nodes[value.node]) for value in node.inputs), None)
        return Mark(str(name or "z"), [node.shapes[0]], 1, codes, on_the_way_up=up)

    def _classes(self, distribution: Node) -> int | None:
        codes = distribution.args.get("codes")
        return codes if isinstance(codes, int) else None

    def _drawn_above(self, latent: Node) -> bool:
        """Whether the latent's value is drawn in the encoder."""
        return any(
            source.role in (Role.SAMPLE, Role.TAP) and self._in_encoder(source)
            for source in (self._graph.nodes[value.node] for value in latent.inputs[2:])
        )

    @staticmethod
    def _in_encoder(node: Node) -> bool:
        scope: GraphScope | None = node.scope
        while scope is not None and scope.kind != "section":
            scope = scope.parent
        return scope is not None and scope.name == "encoder"

    def _belongs_to_latent(self, node: Node) -> bool:
        return node.operation.kind is OperationKind.DISTRIBUTION and any(
            user.role is Role.LATENT for user in self._users.get(node.index, [])
        )

    def _swallowed(self, node: Node) -> bool:
        """Whether the operation is named by the one that it feeds: `+ learned`."""
        users = self._users.get(node.index, [])
        source = node.operation.kind is OperationKind.SOURCE
        return source and len(users) == 1 and users[0].operation is ADD and users[0].scope is node.scope

    def _written(self, node: Node) -> str:
        text = operation(node)
        for value in node.inputs:
            source = self._graph.nodes[value.node]
            if node.operation is ADD and self._swallowed(source):
                text += f" {operation(source)}"
            elif source.role is Role.GIVEN:
                text += f" ({source.args['name']})"
        return text


def _of_conditions(graph: Graph) -> set[int]:
    """Return the nodes that are made of conditions alone; codes of other latents are not quantity among those."""
    conditional: set[int] = set()
    for node in graph.nodes:
        condition = node.role is Role.GIVEN and node.args["source"] != "codes"
        if condition or (node.inputs and all(value.node in conditional for value in node.inputs)):
            conditional.add(node.index)
    return conditional


def tap_label(node: Node) -> str:
    name = node.args.get("name")
    return name if isinstance(name, str) and name != "tap" else ""


def _changes_grid(piece: Piece) -> bool:
    first, last = piece.nodes[0], piece.nodes[-1]
    resamples = first.operation is UPCONV or first.operation in resampling.OPERATIONS
    return first is last and bool(first.inputs) and resamples


def _join_runs(pieces: list[Piece]) -> list[Piece]:
    """Join neighbouring operations into one box, and what a latent statement says into its latent."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and last.kind is piece.kind is PieceKind.OPERATIONS and not _stands_alone(last, piece):
            last.nodes += piece.nodes
            again = last.title.split(" | ")[-1] == piece.title  # a sum of several is one step
            last.title = " | ".join(title for title in (last.title, "" if again else piece.title) if title)
        elif last and last.kind is piece.kind is PieceKind.LATENT and last.title == piece.title:
            last.nodes += piece.nodes
            for mark in piece.marks:
                add_mark(last.marks, mark, counts=True)
        else:
            joined.append(piece)
    return [piece for piece in joined if piece.title or piece.kind is not PieceKind.OPERATIONS]


def _stands_alone(last: Piece, piece: Piece) -> bool:
    """Whether an operation starts a box of its own: one that resamples, and one with weights right after it."""
    if not (last.title and piece.title):
        return False
    joins = piece.nodes[0].operation.kind is OperationKind.JOIN
    return _changes_grid(piece) or (_changes_grid(last) and (joins or piece.parameters > 0))


def _fold_neighbours(pieces: list[Piece]) -> list[Piece]:
    """Fold a recipe into the instance right before it where both are equal."""
    folded: list[Piece] = []
    for piece in pieces:
        last = folded[-1] if folded else None
        if last and piece.kind is PieceKind.RECIPE and not piece.beside and alike(_one(last), _one(piece)):
            join(last, [piece], counts=True)
        else:
            folded.append(piece)
    return folded


def _one(piece: Piece) -> Piece:
    """Return a piece that stands for one instance of a folded one."""
    each = len(piece.nodes) // piece.count
    return replace(piece, nodes=piece.nodes[:each], count=1)
