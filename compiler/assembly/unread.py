"""Definitions and bindings that nothing reads, by the text of all layers: what one variant reads is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hvdsl.compiler.assembly.libraries import nodes
from hvdsl.compiler.assembly.merge import Layer
from hvdsl.compiler.diagnostics import warnings as codes
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic
from hvdsl.grammar.source import Source

Definition = tree.Let | tree.RecipeNode | tree.Shared


def check_unread(layers: Sequence[Layer], source: Source) -> Iterator[Diagnostic]:
    """Warn of what `source` defines and nothing uses (HV0903), and of what it binds and nothing reads (HV0904)."""
    items = [item for layer in layers for item in layer]
    yield from _definitions(items, source)
    everywhere = {name for item in items for name in _mentions(item)}
    for item in _flat(items):
        if item.span.source is not source:
            continue
        for setting in item.settings if isinstance(item, tree.SettingsNode) else ():
            field = setting.key
            if isinstance(setting, tree.ConditionNode) and field.id not in everywhere:
                help = f"use it, as in `concat(x, {field.id})`, or remove it"
                yield Diagnostic(
                    codes.UNREAD_BINDING, f"nothing reads `{field.id}`", field.span, "", "a name that is used", help
                )
        readers = set(_mentions(item)) if isinstance(item, tree.RecipeNode | tree.Prior) else everywhere
        for node in nodes(item):
            for name in _bound(node) if node is not item or isinstance(node, tree.RecipeNode) else ():
                if name.id not in readers:
                    yield Diagnostic(
                        codes.UNREAD_BINDING,
                        f"nothing reads `{name.id}`",
                        name.span,
                        expected="a name that is used",
                        help=f"use `{name.id}`, write `_` in its place, or remove it",
                    )


def _definitions(items: Sequence[tree.SpecItem], source: Source) -> Iterator[Diagnostic]:
    definitions: dict[str, list[Definition]] = {}
    used: set[str] = set()
    for item in _flat(items):
        if isinstance(item, Definition):
            definitions.setdefault(item.name.id, []).append(item)
        else:
            used.update(_mentions(item))
    todo = list(used)
    while todo:
        for item in definitions.get(todo.pop(), ()):
            new = set(_mentions(item)) - used
            used |= new
            todo += new
    unused = {name: found for name, found in definitions.items() if name not in used}
    inner = {mention for found in unused.values() for item in found for mention in _mentions(item)}
    for name, found in unused.items():
        for item in found:
            if item.span.source is source and name not in inner:
                kind = (
                    item.kind
                    if isinstance(item, tree.RecipeNode)
                    else "shared"
                    if isinstance(item, tree.Shared)
                    else "let"
                )
                yield Diagnostic(
                    codes.UNREAD_DEFINITION,
                    f"nothing uses {kind} `{name}`",
                    item.name.span,
                    expected="a definition that is used",
                    help=f"use `{name}`, or remove it",
                )


def _flat(items: Sequence[tree.SpecItem]) -> Iterator[tree.SpecItem]:
    """Items, those of variants in the place of the variant."""
    for item in items:
        if isinstance(item, tree.Variant):
            yield from _flat(item.items)
        else:
            yield item


def _bound(node: tree.TreeNode) -> Iterator[tree.Name]:
    """The names that a statement binds, but for latents: those are the graph's."""
    if isinstance(node, tree.Let | tree.Shared):
        yield node.name
    elif isinstance(node, tree.RecipeNode):
        yield from (parameter.name for parameter in node.parameters)
    elif isinstance(node, tree.Bind):
        yield from (t for t in node.targets if isinstance(t, tree.Name) and t.id not in ("_", "x"))


def _mentions(item: tree.TreeNode) -> Iterator[str]:
    return (name.id for name in mentions(item))


def mentions(item: tree.TreeNode) -> Iterator[tree.Name]:
    """The names that an item speaks of, other than those that it gives to something."""
    given: set[int] = set()
    for node in nodes(item):
        match node:
            case tree.Bind():
                given.update(id(target) for target in node.targets if isinstance(target, tree.Name))
            case tree.Latent():
                given.update(id(name) for name in node.names)
            case tree.Let() | tree.Shared() | tree.RecipeNode() | tree.ParameterNode():
                given.add(id(node.name))
            case tree.Setting():
                given.add(id(node.key))
            case tree.Name() if id(node) not in given:
                yield node


def defined(layers: Sequence[Layer]) -> frozenset[str]:
    """Every name of the top level, of variants, too."""
    return frozenset(item.name.id for layer in layers for item in _flat(layer) if isinstance(item, Definition))
