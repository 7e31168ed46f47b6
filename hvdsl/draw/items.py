"""What a drawing shows: the pieces of a column, folded from the scopes of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hvdsl.compiler.graph import Node, Scope, Shape


class Kind(StrEnum):
    RECIPE = "recipe"
    OPERATIONS = "operations"
    TAP = "tap"
    LATENT = "latent"
    FRAME = "frame"


@dataclass(slots=True)
class Mark:
    """Latent variables of one name that an item draws; `shapes` in the order of generation."""

    name: str
    shapes: list[Shape]
    count: int  # in one occurrence of the item
    classes: int | None = None  # of a discrete latent
    on_the_way_up: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """One piece of a column: a box, a tap, a latent, or a frame around pieces that repeat together.

    `count` folds equal neighbours. `nodes` are all nodes that it stands for, in every repetition.
    """

    kind: Kind
    title: str
    nodes: list[Node] = field(default_factory=list)
    count: int = 1
    marks: list[Mark] = field(default_factory=list)
    children: list[Item] = field(default_factory=list)
    scope: Scope | None = None
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

    def leaves(self) -> Iterable[Item]:
        if self.kind is Kind.FRAME:
            for child in self.children:
                yield from child.leaves()
        else:
            yield self


def key(item: Item, prior: str = "") -> str:
    """Return a name that no other piece of a drawing has; `prior` is the latent whose prior it is a piece of."""
    return f"{prior}:{item.kind}{item.nodes[0].index}"


def signature(items: Sequence[Item]) -> tuple[object, ...]:
    """What must agree for repetitions to be folded: the pieces and their operations, not their sizes."""
    return tuple((*_kind(item), item.count, len(item.nodes), signature(item.children)) for item in items)


def alike(a: Item, b: Item) -> bool:
    """Whether two instances of a recipe are the same in name and arguments, and in every operation and shape."""
    return _kind(a) == _kind(b) and same_shapes(a, b)


def _kind(item: Item) -> tuple[object, ...]:
    return item.kind, item.title, item.arguments, item.shared, item.beside


def same_shapes(a: Item, b: Item) -> bool:
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


def join(first: Item, others: Iterable[Item], *, counts: bool) -> Item:
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
