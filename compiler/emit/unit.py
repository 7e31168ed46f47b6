"""A unit: one instance that becomes an object of a class, and where things are in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hvdsl.compiler.catalogue.table import Layer
from hvdsl.compiler.emit.steps import Address, Index, Item
from hvdsl.compiler.graph import Edge, Graph, Node, Scope

SEPARATE = ("model", "section", "recipe", "shared")  # become classes; others are part of the code around


@dataclass(frozen=True, slots=True)
class OwnUse:
    """What a use of a shared instance has for itself. `instance` is its address in the unit that declares it."""

    instance: Address
    roles: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Unit:
    """One instance of a class-to-be, or one use of a shared instance. `entries` are its own submodules, by address.

    A shared instance is a submodule of the unit that declares it, which hands it down to where it is used: `borrowed`
    are those that a unit takes as arguments, by path. Each use is a unit too, `called` by the one that it stands in.
    """

    graph: Graph
    scope: Scope
    parent: Unit | None
    depth: int
    items: tuple[Item, ...] = ()
    entries: dict[Address, Layer | Unit | OwnUse] = field(default_factory=dict)
    nodes: dict[Address, Node] = field(default_factory=dict)  # of the entries that are layers
    called: list[Unit] = field(default_factory=list)
    borrowed: dict[str, str] = field(default_factory=dict)
    inputs: tuple[Edge, ...] = ()
    outputs: tuple[Edge, ...] = ()
    latents: tuple[int, int] = (0, 0)  # those drawn inside, of the model's
    takes_latents: bool = False
    generative: bool = False  # whether any of it runs without an image
    form: int = -1  # units of one form share a class

    @property
    def is_section(self) -> bool:
        return self.scope.kind in ("model", "section")

    def parts(self) -> Iterator[Unit]:
        """Every unit right inside: what it holds, and its uses of shared instances."""
        for entry in self.entries.values():
            if isinstance(entry, Unit) and entry.scope.kind != "shared":
                yield entry
        yield from self.called


def used(shared: Scope) -> str:
    """The path of what a use of a shared instance calls: the instance, or its own form of it."""
    return shared.own_path or shared.path


def declares(unit: Unit, shared: Scope) -> bool:
    """Whether a shared instance is declared in this unit."""
    scope = shared.parent
    while scope is not None and scope.kind not in SEPARATE:
        scope = scope.parent
    return scope is unit.scope


def lent(path: str, unit: Unit) -> Address:
    """Where a unit has a shared instance: by its argument's name, or in itself."""
    if path in unit.borrowed:
        return (unit.borrowed[path],)
    return ("self", *address_of(path, unit.scope))


def section_of(unit: Unit) -> Unit:
    while unit.depth > 1:
        unit = parent_of(unit)
    return unit


def parent_of(unit: Unit) -> Unit:
    if unit.parent is None:
        raise AssertionError("a value crosses the border of the model")
    return unit.parent


def address_of(path: str, scope: Scope) -> Address:
    """A path from a scope down: `q.bottleneck.0` gives ("q", "bottleneck", Index(0))."""
    above = scope.path
    if above and not path.startswith(above + "."):
        raise AssertionError(f"{path} is not inside {above}")
    steps = path[len(above) + 1 :] if above else path
    return tuple(Index(int(s)) if s.isdigit() else s for s in steps.split("."))
