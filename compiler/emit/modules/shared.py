"""Uses of a shared instance side by side: what one of them needs, all compute, since they run the same code.

The last of several steps over a state (`h, canvas = start -> step * 4`) leaves a state that nothing reads, but it is
the same instance that makes the state of the step after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from hvdsl.compiler.graph import Graph, GraphScope
from hvdsl.grammar.record import Record, record


@record
class Use(Record):
    """One use of a shared instance: its scope, and its nodes in an order that all its uses have."""

    scope: GraphScope
    nodes: tuple[int, ...]


def uses_alike(graph: Graph) -> list[list[Use]]:
    """Return the uses of each shared instance that has several."""
    of_path: dict[str, list[GraphScope]] = defaultdict(list)
    for scope in _shared(graph.root):
        of_path[scope.path].append(scope)
    return [
        [Use(scope, tuple(n.index for n in scope.nodes())) for scope in scopes]
        for scopes in of_path.values()
        if len(scopes) > 1 and len({tuple(n.operation.name for n in scope.nodes()) for scope in scopes}) == 1
    ]  # those whose operations differ are refused elsewhere (HV0805)


def _shared(scope: GraphScope) -> Iterator[GraphScope]:
    for member in scope.members:
        if isinstance(member, GraphScope):
            if member.kind == "shared":
                yield member
            yield from _shared(member)


def running(uses: list[Use], live: set[int] | frozenset[int]) -> list[Use]:
    """Of the uses of an instance, those that compute anything."""
    return [use for use in uses if not live.isdisjoint(use.nodes)]


def extend(needed: set[int], uses: list[Use]) -> bool:
    """Add to each use that computes anything what any of them computes; say whether something was added."""
    several = running(uses, needed)
    places = {place for use in several for place, node in enumerate(use.nodes) if node in needed}
    added = {use.nodes[place] for use in several for place in places} - needed
    needed |= added
    return bool(added)
