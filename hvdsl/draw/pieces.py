"""What a drawing shows: the pieces of a column, folded from the scopes of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hvdsl.compiler.graph import GraphScope, Node, Shape


class PieceKind(StrEnum):
    RECIPE = "recipe"
    OPERATIONS = "operations"
    TAP = "tap"
    LATENT = "latent"
    FRAME = "frame"


@dataclass(slots=True)
class Mark:
    """Latent variables of one name that a piece draws; `shapes` in the order of generation."""

    name: str
    shapes: list[Shape]
    count: int  # in one occurrence of the piece
    classes: int | None = None  # of a discrete latent
    on_the_way_up: bool = False


@dataclass(slots=True, eq=False)
class Piece:
    """One piece of a column: a box, a tap, a latent, or a frame around pieces that repeat together.

    `count` folds equal neighbours. `nodes` are all nodes that it stands for, in every repetition.
    """

    kind: PieceKind
    title: str
    nodes: list[Node] = field(default_factory=list)
    count: int = 1
    marks: list[Mark] = field(default_factory=list)
    children: list[Piece] = field(default_factory=list)
    scope: GraphScope | None = None
    arguments: str = ""  # what tells a recipe from others of its name: `attn = yes`
    shared: bool = False  # a use of an instance that has its parameters where it is first used
    beside: bool = False  # the repetitions stand side by side, on one input
    scale: float = 1.0  # height of what leaves one instance over the height of what enters it
    given: tuple[str, ...] = ()  # conditions that it reads

    @property
    def channels(self) -> int:
        return self.nodes[-1].shapes[0][0]

    @property
    def parameters(self) -> int:
        """Trained numbers that are counted here: what an earlier use of a shared instance owns counts there."""
        return sum(p.size for node in self.nodes for p in node.parameters if p.trainable and p.role not in node.shared)

    def leaves(self) -> Iterable[Piece]:
        if self.kind is PieceKind.FRAME:
            for child in self.children:
                yield from child.leaves()
        else:
            yield self


def piece_key(piece: Piece, prior: str = "") -> str:
    """Return a name that no other piece of a drawing has; `prior` is the latent whose prior it is a piece of."""
    return f"{prior}:{piece.kind}{piece.nodes[0].index}"


def fold_pattern(pieces: Sequence[Piece]) -> tuple[object, ...]:
    """What must agree for repetitions to be folded: the pieces and their operations, not their sizes."""
    return tuple((*_kind(piece), piece.count, len(piece.nodes), fold_pattern(piece.children)) for piece in pieces)


def alike(a: Piece, b: Piece) -> bool:
    """Whether two instances of a recipe are the same in name and arguments, and in every operation and shape."""
    return _kind(a) == _kind(b) and same_shapes(a, b)


def _kind(piece: Piece) -> tuple[object, ...]:
    return piece.kind, piece.title, piece.arguments, piece.shared, piece.beside


def same_shapes(a: Piece, b: Piece) -> bool:
    """Whether two instances of a recipe are equal in every operation and shape."""
    return len(a.nodes) == len(b.nodes) and all(
        m.operation is n.operation and m.shapes == n.shapes for m, n in zip(a.nodes, b.nodes, strict=True)
    )


def add_mark(marks: list[Mark], new: Mark, *, counts: bool) -> None:
    """Join a mark to those of its name; `counts` says whether one occurrence then draws more of them."""
    for mark in marks:
        if mark.name == new.name and mark.on_the_way_up == new.on_the_way_up:
            mark.shapes += new.shapes
            mark.count += new.count if counts else 0
            return
    marks.append(Mark(new.name, list(new.shapes), new.count, new.classes, new.on_the_way_up))


def join(first: Piece, others: Iterable[Piece], *, counts: bool) -> Piece:
    """Fold later instances into the first. `counts`: they follow each other; else a frame around them counts."""
    for other in others:
        first.nodes += other.nodes
        first.given = tuple(dict.fromkeys((*first.given, *other.given)))
        if counts:
            first.count += other.count
        for mark in other.marks:
            add_mark(first.marks, mark, counts=counts)
        for mine, theirs in zip(first.children, other.children, strict=True):
            join(mine, [theirs], counts=False)
    return first
