"""An instance that becomes an object of a class, where things are in it, and which of its nodes run when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hvdsl.compiler.catalogue.table import LayerCall
from hvdsl.compiler.emit.forward.steps import Address, Index, Item
from hvdsl.compiler.emit.modules.shared import Use, extend, uses_alike
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Node, Role
from hvdsl.grammar.record import Record, record


@record
class Uses(Record):
    """`live`: nodes that the output or a latent depends on. `generative`: nodes that run without an image.

    `needed`: of the other live nodes, the first and last latent whose posterior depends on them.
    """

    live: frozenset[int]
    generative: frozenset[int]
    needed: dict[int, tuple[int, int]]


def uses(graph: Graph) -> Uses:
    """Walk back from the output, with and without the posteriors."""
    number = {group.node: i for i, group in enumerate(graph.latents)}
    generative: set[int] = {graph.output.node} | set(number)
    live: set[int] = {graph.output.node} | set(number)
    needed: dict[int, tuple[int, int]] = {}
    shared = uses_alike(graph)
    while True:
        for node in reversed(graph.nodes):
            own = node.index
            if own in generative:
                prior = node.inputs[:1] if own in number else node.inputs
                generative.update(v.node for v in prior)
            if own in live:
                live.update(v.node for v in node.inputs)
        added = [extend(nodes, several) for nodes in (live, generative) for several in shared]
        if not any(added):
            break
    while True:
        _needed_by(graph, number, live, generative, needed)
        added = [_needed_alike(several, number, live - generative, needed) for several in shared]
        if not any(added):
            break
    return Uses(frozenset(live), frozenset(generative), needed)


def _needed_by(
    graph: Graph, number: dict[int, int], live: set[int], generative: set[int], needed: dict[int, tuple[int, int]]
) -> None:
    """Widen the ranges of latents in `needed` to those of what follows; latents that the model has not, count not."""
    for node in reversed(graph.nodes):
        if node.index not in live:
            continue
        own_range = needed.get(node.index)
        if node.index in number:
            own_range = (number[node.index], number[node.index])
        if own_range is None or own_range[0] >= len(number):
            continue
        own_range = own_range[0], min(own_range[1], len(number) - 1)
        for value in node.inputs:
            if value.node not in generative:
                low, high = needed.get(value.node, own_range)
                needed[value.node] = min(low, own_range[0]), max(high, own_range[1])


def _needed_alike(uses: list[Use], number: dict[int, int], parts: set[int], needed: dict[int, tuple[int, int]]) -> bool:
    """Give the uses of a shared group one range for each part, counted from their own first latent; as `extend`.

    An inference state (DRAW's encoder) is needed by the posteriors of all later steps, of which each step has fewer
    than the one before it; the last have as many as the first, some of them behind the model's end.
    """
    firsts = [
        min(number[n] for n in use.nodes if n in number) for use in uses if not number.keys().isdisjoint(use.nodes)
    ]
    if len(firsts) != len(uses):
        return False
    before = dict(needed)
    for same in zip(*(use.nodes for use in uses), strict=True):
        ranges = [
            (needed[n][0] - first, needed[n][1] - first)
            for n, first in zip(same, firsts, strict=True)
            if n in needed and n in parts
        ]
        if ranges:
            low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
            needed |= {n: (first + low, first + high) for n, first in zip(same, firsts, strict=True) if n in parts}
    return needed != before


def is_tap(graph: Graph, value: Edge) -> bool:
    return graph.nodes[value.node].role is Role.TAP


def given_name(node: Node) -> str:
    """What `forward` calls an argument: a code map by its latent."""
    name = node.args.get("name")
    return name if isinstance(name, str) else node.operation.name


def published(node: Node) -> Edge:
    """The output of a tap that crosses to the decoder: of a latent drawn on the way up, its posterior."""
    return Edge(node.index, len(node.shapes) - 1)


def tap_key(node: Node) -> tuple[str, int, int]:
    """Taps of one name and resolution belong together."""
    given = node.args.get("name")
    name = given if isinstance(given, str) and given else "skip"
    _, height, width = node.shapes[0]
    return (f"{name}_posterior" if len(node.shapes) > 1 else name), height, width


SEPARATE = ("model", "section", "recipe", "shared")  # become classes; others are part of the code around


@record
class OwnUse(Record):
    """What a use of a shared instance has for itself. `instance` is its address in the instance that declares it."""

    instance: Address
    roles: tuple[str, ...]


@dataclass(slots=True, eq=False)
class ModuleInstance:
    """One instance of a class-to-be, or one use of a shared instance. `entries` are its own submodules, by address.

    A shared instance is a submodule of the one that declares it, which hands it down to where it is used:
    `borrowed` are those that come in as arguments, by path. Each use is an instance too, `called` by the one around.
    """

    graph: Graph
    scope: GraphScope
    parent: ModuleInstance | None
    depth: int
    items: tuple[Item, ...] = ()
    entries: dict[Address, LayerCall | ModuleInstance | OwnUse] = field(default_factory=dict)
    nodes: dict[Address, Node] = field(default_factory=dict)  # of the entries that are layers
    called: list[ModuleInstance] = field(default_factory=list)
    borrowed: dict[str, str] = field(default_factory=dict)
    inputs: tuple[Edge, ...] = ()
    outputs: tuple[Edge, ...] = ()
    latents: tuple[int, int] = (0, 0)  # those drawn inside, of the model's
    takes_latents: bool = False
    generative: bool = False  # whether any of it runs without an image
    class_key: int = -1  # instances of one key share a class

    @property
    def is_section(self) -> bool:
        return self.scope.kind in ("model", "section")

    def parts(self) -> Iterator[ModuleInstance]:
        """Every instance right inside: what it holds, and its uses of shared instances."""
        for entry in self.entries.values():
            if isinstance(entry, ModuleInstance) and entry.scope.kind != "shared":
                yield entry
        yield from self.called


def used_path(shared: GraphScope) -> str:
    """The path of what a use of a shared instance calls: the instance, or its own form of it."""
    return shared.own_path or shared.path


def declares(instance: ModuleInstance, shared: GraphScope) -> bool:
    """Whether a shared instance is declared in this instance."""
    scope = shared.parent
    while scope is not None and scope.kind not in SEPARATE:
        scope = scope.parent
    return scope is instance.scope


def in_shared(instance: ModuleInstance | None) -> bool:
    """Whether an instance is a use of a shared one, or inside one."""
    return instance is not None and (instance.scope.kind == "shared" or in_shared(instance.parent))


def lent(path: str, instance: ModuleInstance) -> Address:
    """Where a instance has a shared instance: by its argument's name, or in itself."""
    if path in instance.borrowed:
        return (instance.borrowed[path],)
    return ("self", *address_of(path, instance.scope))


def section_of(instance: ModuleInstance) -> ModuleInstance:
    while instance.depth > 1:
        instance = parent_of(instance)
    return instance


def parent_of(instance: ModuleInstance) -> ModuleInstance:
    if instance.parent is None:
        raise AssertionError("a value crosses the border of the model")
    return instance.parent


def address_of(path: str, scope: GraphScope) -> Address:
    """A path from a scope down: `q.bottleneck.0` gives ("q", "bottleneck", Index(0))."""
    above = scope.path
    if above and not path.startswith(above + "."):
        raise AssertionError(f"{path} is not inside {above}")
    steps = path[len(above) + 1 :] if above else path
    return tuple(Index(int(s)) if s.isdigit() else s for s in steps.split("."))
