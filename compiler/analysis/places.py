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


def segments(graph: Graph) -> dict[str, list[list[int]]]:
    """Recipe instances that are in no other, by path: the nodes of each use. They are what can be run again.

    Those without parameters are not among them, nor are shared ones that some use calls with parameters of its own.
    """

    def outermost(scope: Scope) -> Iterator[Scope]:
        for member in scope.members:
            if isinstance(member, Node):
                continue
            if member.kind in ("recipe", "shared"):
                yield member
            else:
                yield from outermost(member)

    uses: dict[str, list[Scope]] = {}
    for instance in outermost(graph.root):
        uses.setdefault(instance.path, []).append(instance)
    return {
        path: [[node.index for node in use.nodes()] for use in of_path]
        for path, of_path in uses.items()
        if not any(use.own for use in of_path) and any(node.parameters for use in of_path for node in use.nodes())
    }
