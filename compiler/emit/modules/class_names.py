"""Names of classes: the recipe's, and for what differs from its plain form, in what: `BottleneckOfConcat`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Protocol

from hvdsl.compiler.catalogue.convolutions import CONV
from hvdsl.compiler.catalogue.table import Locality
from hvdsl.compiler.emit import runtime_index
from hvdsl.compiler.emit.forward.steps import Index, StepKind, steps
from hvdsl.compiler.emit.modules.instance import ModuleInstance, tap_key
from hvdsl.compiler.emit.syntax import MODULE_LEVEL, Names, camel
from hvdsl.compiler.graph import Edge, Node, Role


class NamedClass(Protocol):
    """A class that has its name."""

    name: str

    @property
    def example(self) -> ModuleInstance: ...


def class_name(instance: ModuleInstance, known: Sequence[NamedClass], taken: Names) -> str:
    """Take the name of a class, after one of its instances; `known` are the classes before, its parts among them.

    The first class of a recipe has the recipe's name. Another says what it has that the first has not, in words.
    """
    name = _plain(instance)
    scope = instance.scope
    like = [c for c in known if (c.example.scope.kind, c.example.scope.name) == (scope.kind, scope.name)]
    if like and not instance.is_section:
        differences = list(dict.fromkeys(_differences(instance, like[0], known)))
        for count in (1, 2, 3):
            for chosen in combinations(differences, count):
                longer = name + "".join(chosen).replace("With", "And").replace("And", "With", 1)
                if longer not in taken:
                    return taken.take(longer)
    return taken.take(name)


def _plain(instance: ModuleInstance) -> str:
    if instance.scope.kind == "model":
        name = camel(instance.graph.name)
        return f"{name}Model" if name in runtime_index.exports() or name in MODULE_LEVEL else name
    name = camel(instance.scope.name.rstrip("_"))
    if instance.scope.kind == "shared":
        return f"Shared{name}"
    if (name in runtime_index.exports() or name in MODULE_LEVEL) and not instance.is_section:
        return f"{name}Cell"
    return name


def _differences(instance: ModuleInstance, first: NamedClass, known: Sequence[NamedClass]) -> Iterator[str]:
    """What an instance has or lacks, compared with the first class of its recipe; what says most comes first."""
    plain = first.example
    if _has_split(instance) and not _has_split(plain):
        yield "OfConcat"
    own, theirs = _functions(instance), _functions(plain)
    fewer, more = theirs - own, own - theirs
    if any(_is_activation(node) for node in fewer.values()):
        yield "OfActivated"
    for name in _arguments(instance):
        if name not in _arguments(plain):
            yield f"With{camel(name)}"
    for address in _members(instance):
        if address not in _members(plain):
            yield f"With{camel(address)}"
    for address in _members(plain):
        if address not in _members(instance):
            yield f"Without{camel(address)}"
    by_key = {c.example.class_key: c.name for c in known}
    for entry in instance.entries.values():
        if isinstance(entry, ModuleInstance) and (part := by_key.get(entry.class_key, "")).startswith(_plain(entry)):
            suffix = part.removeprefix(_plain(entry))
            if suffix and not suffix.isdigit():
                yield suffix
    for node in more.values():
        yield f"With{camel(node.operation.name)}"
    for node in fewer.values():
        yield f"Without{camel(node.operation.name)}"
    if instance.takes_latents and not plain.takes_latents:
        yield "Drawn"


class _Functions:
    """What an instance computes itself, without a layer: operations by name, with how often."""

    def __init__(self, counts: Counter[str], nodes: dict[str, Node]) -> None:
        self.counts, self.nodes = counts, nodes

    def __sub__(self, other: _Functions) -> _Functions:
        return _Functions(self.counts - other.counts, self.nodes)

    def values(self) -> list[Node]:
        return [self.nodes[name] for name in self.counts]


def _functions(instance: ModuleInstance) -> _Functions:
    counts: Counter[str] = Counter()
    nodes = {}
    for step in steps(instance.items):
        if step.kind is StepKind.EXPRESSION and step.outputs[0].node < len(instance.graph.nodes):
            node = instance.graph.nodes[step.outputs[0].node]
            counts[node.operation.name] += 1
            nodes[node.operation.name] = node
    return _Functions(counts, nodes)


def _has_split(instance: ModuleInstance) -> bool:
    """Whether a convolution here takes several tensors, in the place of their concatenation."""
    return any(node.operation is CONV and len(node.inputs) > 1 for node in instance.nodes.values())


def _is_activation(node: Node) -> bool:
    operation = node.operation
    return operation.role is Role.OPERATION and operation.locality is Locality.ELEMENT and len(node.inputs) == 1


def _arguments(instance: ModuleInstance) -> list[str]:
    """The spec's names of what comes in."""
    return [name for edge in instance.inputs if (name := _name(instance, edge)) is not None]


def _name(instance: ModuleInstance, edge: Edge) -> str | None:
    node = instance.graph.nodes[edge.node]
    if node.role is Role.TAP:
        return tap_key(node)[0]
    return node.names[edge.port] if edge.port < len(node.names) else None


def _members(instance: ModuleInstance) -> list[str]:
    """Names of submodules, without their numbers."""
    return list(dict.fromkeys("_".join(p for p in a if not isinstance(p, Index)) for a in instance.entries))
