"""Where a node stands: its section, its row, and the recipe instance that is checkpointed with it."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.graph import Graph, Node, Scope


def holders(graph: Graph) -> dict[int, tuple[Scope, ...]]:
    """For each node, the scopes that hold it, outermost first; a `shared` instance counts where used."""
    found: dict[int, tuple[Scope, ...]] = {}
    todo: list[tuple[Scope, tuple[Scope, ...]]] = [(graph.root, (graph.root,))]
    while todo:
        scope, above = todo.pop()
        for member in scope.members:
            if isinstance(member, Node):
                found[member.index] = above
            else:
                todo.append((member, (*above, member)))
    return found


def row_of(above: tuple[Scope, ...]) -> Scope | None:
    return next((scope for scope in above if scope.kind == "row"), None)


def label(row: Scope) -> tuple[int, int]:
    """(height, width) from the name of a row: `r32`, `r8x6`."""
    height, _, width = row.name.removeprefix("r").partition("x")
    return int(height), int(width or height)


def segments(graph: Graph) -> Iterator[tuple[Scope, list[int]]]:
    """Recipe instances directly in a row, with their nodes: what activation checkpointing wraps."""

    def directly(scope: Scope) -> Iterator[Scope]:
        for member in scope.members:
            if isinstance(member, Node):
                continue
            if member.kind in ("recipe", "shared"):
                yield member
            elif member.kind in ("repeat", "turn", "binding"):
                yield from directly(member)

    for section in graph.root.members:
        if isinstance(section, Scope):
            for row in section.members:
                if isinstance(row, Scope) and row.kind == "row":
                    for instance in directly(row):
                        yield instance, [node.index for node in instance.nodes()]
