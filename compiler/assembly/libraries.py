"""Used files as libraries: `use "x.hv" as cells` keeps their names apart, `needs` says what they take from the spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from hvdsl.compiler.assembly.merge import Layer
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.diagnostics.assembly import NEEDS_DEFAULT, NEEDS_MISSING
from hvdsl.compiler.diagnostics.names import UNKNOWN_NAME
from hvdsl.compiler.diagnostics.warnings import UNREAD_DEFINITION
from hvdsl.compiler.suggest import did_you_mean, habit, nearest_word
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Source, Span

N = TypeVar("N")
Defined = tree.Let | tree.RecipeNode
Aliases = Mapping[str, Mapping[str, str]]
"""By the name that a file is used under: what it defines, and what that is called in the closed spec."""


@record
class Need(Record):
    """A `needs` of a used file, and where that file is used."""

    needs: tree.NeedsNode
    used: Span


def nodes(root: object) -> Iterator[tree.TreeNode]:
    """Yield a node and all below it."""
    todo = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, tuple):
            todo += node
        elif isinstance(node, tree.TreeNode):
            yield node
            todo += [getattr(node, f) for f in _fields(node)]


def bound(body: object) -> Iterator[str]:
    """Yield the names that a recipe's text binds itself, which hide those of the top level."""
    for node in nodes(body):
        match node:
            case tree.Let() | tree.Shared():
                yield node.name.id
            case tree.Bind():
                yield from (target.id for target in node.targets if isinstance(target, tree.Name))
            case tree.Latent():
                yield from (name.id for name in node.names)


def under(alias: str, items: Mapping[str, Defined]) -> dict[str, Defined]:
    """Return the definitions of a used file with its name before theirs: `layer` of `cells` is `cells_layer`.

    A recipe sees its own file's definitions by that name as well; what its text binds itself hides them.
    """
    names = {name: f"{alias}_{name}" for name in items}
    return {names[name]: _defined_as(item, names[name], names) for name, item in items.items()}


def _defined_as(item: Defined, name: str, names: Mapping[str, str]) -> Defined:
    hidden: set[str] = set()
    if isinstance(item, tree.RecipeNode):
        hidden = {parameter.name.id for parameter in item.parameters} | set(bound(item.body))
    visible = {old: new for old, new in names.items() if old not in hidden}
    return replace(renamed(item, visible), name=replace(item.name, id=name))


def renamed(node: N, names: Mapping[str, str]) -> N:
    """Return a part of a tree with references by other names; taps, keys and roles are no references."""
    if isinstance(node, tuple):
        return cast(N, tuple(renamed(part, names) for part in node))
    if isinstance(node, tree.Name):
        return cast(N, replace(node, id=names[node.id])) if node.id in names else node
    if not isinstance(node, tree.TreeNode) or not names or is_label(node):
        return node
    kept = {"key", "operation"} if isinstance(node, tree.Setting | tree.Default) else set()
    changed: dict[str, Any] = {}
    for field in _fields(node):
        part = getattr(node, field)
        if field not in kept and (new := renamed(part, names)) is not part:
            changed[field] = new
    return cast(N, replace(node, **changed)) if changed else node


def _fields(node: tree.TreeNode) -> list[str]:
    return [f for f in node.__dataclass_fields__ if f not in ("span", "before", "after", "trailing")]


def is_label(node: tree.TreeNode) -> bool:
    """Whether the names in a node are those of taps, or of roles, and refer to nothing."""
    if isinstance(node, tree.ArgumentNode):
        return node.name == "own"
    return isinstance(node, tree.Call) and isinstance(node.function, tree.Name) and node.function.id in ("tap", "skip")


def resolved(items: Sequence[tree.SpecItem], aliases: Aliases, diagnostics: Diagnostics) -> tuple[tree.SpecItem, ...]:
    """Return items in which `cells.layer` is what that is called in the closed spec."""
    names: dict[str, str] = {}
    for node in nodes(tuple(items)):
        if not isinstance(node, tree.Name) or "." not in node.id or node.id in names:
            continue
        alias, _, name = node.id.partition(".")
        new = aliases.get(alias, {}).get(name)
        if new is not None:
            names[node.id] = new
            continue
        known = aliases.get(alias)
        what, among = (f"`{alias}` brings no `{name}`", known) if known else (f"no file is used as `{alias}`", aliases)
        expected = "a cell, group or `let` of that file" if known else f'`use "…" as {alias}` at the top'
        help = habit(name) or did_you_mean(name if known else alias, among or ())
        near = name.lower() if name.lower() in OPERATIONS else nearest_word(name, OPERATIONS)
        if not aliases and not habit(name) and near is not None:
            help = f"did you mean `{near}`?"
        diagnostics.add(Diagnostic(UNKNOWN_NAME, what, node.span, f"`{node.id}`", expected, help))
    return renamed(tuple(items), names) if names else tuple(items)


def check_needs(needs: Iterable[Need], items: Layer, diagnostics: Diagnostics) -> None:
    """Tell at each `use` what the file needs of the spec that something reached needs, and the spec does not say."""
    defined = {item.name.id: item for item in items if isinstance(item, tree.Let | tree.RecipeNode | tree.Shared)}
    defaults = {
        (item.operation.id, setting.key.id)
        for item in items
        if isinstance(item, tree.Default)
        for setting in item.settings
    }
    reached: _Reached | None = None
    for need in needs:
        operation = need.needs.operation
        pointless = None if operation is None else _taken_by_nothing(need, operation, defined.values())
        if pointless is not None:
            diagnostics.add(pointless)
            continue
        missing = [
            name.id
            for name in need.needs.names
            if (name.id not in defined if operation is None else (operation.id, name.id) not in defaults)
        ]
        if not missing:
            continue
        reached = reached or _Reached.of(items, defined)
        if operation is not None:
            if reached.applies(operation.id, need.needs.span.source):
                diagnostics.add(_no_default(need, operation.id, missing))
            continue
        for name in missing:
            if name in reached.names:
                diagnostics.add(_not_defined(need, name, defined))


@record
class _Reached(Record):
    """The names that the sections of a spec mention, and the definitions behind them; with the definitions met."""

    names: frozenset[str]
    recipes: tuple[tree.TreeNode, ...]

    @classmethod
    def of(cls, items: Layer, defined: Mapping[str, tree.TreeNode]) -> _Reached:
        names: set[str] = set()
        recipes: list[tree.TreeNode] = []
        todo: list[object] = [item for item in items if not isinstance(item, tree.Let | tree.RecipeNode | tree.Shared)]
        while todo:
            for node in nodes(todo.pop()):
                if isinstance(node, tree.Name) and node.id not in names:
                    names.add(node.id)
                    if node.id in defined:
                        recipes.append(defined[node.id])
                        todo.append(defined[node.id])
        return cls(frozenset(names), tuple(recipes))

    def applies(self, operation: str, file: Source) -> bool:
        """Whether a definition of that file that is reached uses the operation."""
        return any(
            isinstance(node, tree.Name) and node.id == operation
            for recipe in self.recipes
            if recipe.span.source is file
            for node in nodes(recipe)
        )


def _taken_by_nothing(need: Need, operation: tree.Name, recipes: Iterable[tree.TreeNode]) -> Diagnostic | None:
    """Say that no recipe can take a default that a used file needs: a file that it uses itself may be what takes it."""
    known, wrong = OPERATIONS.get(operation.id), operation
    what, help = f"there is no operation `{operation.id}`", did_you_mean(operation.id, OPERATIONS)
    if known is not None:
        arguments = [argument.name for argument in known.arguments]
        unknown = next((name for name in need.needs.names if name.id not in arguments), None)
        if unknown is not None:
            what, wrong = f"`{operation.id}` has no argument `{unknown.id}`", unknown
            help = did_you_mean(unknown.id, arguments)
        else:
            used = [recipe for recipe in recipes if recipe.span.source is not need.used.source]
            names = (node.id for recipe in used for node in nodes(recipe) if isinstance(node, tree.Name))
            if need.used.source is need.needs.span.source or operation.id in names:
                return None
            what, help = f"no recipe of this file uses `{operation.id}`", "remove the line"
    expected = "a default that a recipe of the file takes"
    return Diagnostic(UNREAD_DEFINITION, what, wrong.span, f"`{need.needs.span.text}`", expected, help)


def _not_defined(need: Need, name: str, defined: Iterable[str]) -> Diagnostic:
    near = did_you_mean(name, defined)
    return Diagnostic(
        NEEDS_MISSING,
        f"{need.needs.span.source.name} needs `{name}`",
        need.used,
        f"nothing of that name in the spec (its line {need.needs.span.line} says `{need.needs.span.text}`)",
        f"`let {name} = …`, or a recipe of that name",
        f"add `let {name} = …` to the spec" + (f"; {near}" if near.startswith("did") else ""),
    )


def _no_default(need: Need, operation: str, keys: Sequence[str]) -> Diagnostic:
    settings = ", ".join(f"{key} = …" for key in keys)
    return Diagnostic(
        NEEDS_DEFAULT,
        f"{need.needs.span.source.name} is written for a `default {operation}` of the spec's own",
        need.used,
        f"no default of {', '.join(f'`{key}`' for key in keys)}",
        f"`default {operation} {{ {settings} }}`",
        f"add `default {operation} {{ {settings} }}` to the spec",
    )
