"""Merge the layers of a spec, lowest first: what it uses, what it extends, itself, a variant of it.

Pure functions tree -> tree. A `let`, recipe, likelihood or prior of the same name replaces the lower one, a
row its namesake (`64: none` removes one), a setting or `default` its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from hvdsl.compiler.diagnostics.assembly import BAD_LABEL, DUPLICATE, NO_ROW_TO_REMOVE
from hvdsl.compiler.evaluate.binding import kernel
from hvdsl.compiler.evaluate.constants import constant_value
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Fault
from hvdsl.grammar.printer import print_expression
from hvdsl.grammar.source import Span

Key: TypeAlias = tuple[str, ...]
Size: TypeAlias = tuple[int, int]
Lets: TypeAlias = Mapping[str, tree.Expr]
Layer: TypeAlias = tuple[tree.SpecItem, ...]
RowItem: TypeAlias = tree.Row | tree.Let | tree.Shared | tree.Default

# Two ways to say one thing: the later one replaces the earlier.
_ALTERNATIVES = {"epochs": "steps"}


def key_of(item: tree.SpecItem) -> Key:
    """Return what an item is known by: two items with one key are the same thing said twice."""
    match item:
        case tree.Version():
            return ("hv",)
        case tree.HeaderNode():
            return (item.kind,)
        case tree.NeedsNode():
            return ("needs",)
        case tree.Let() | tree.Shared() | tree.RecipeNode():
            return ("name", item.name.id)
        case tree.Default():
            return ("default", item.operation.id)
        case tree.Section():
            return (item.kind,)
        case tree.LikelihoodNode():
            return ("likelihood",)
        case tree.SettingsNode(kind="train"):
            return ("train", _text(item.name)) if item.name is not None else ("train",)
        case tree.SettingsNode():
            return (item.kind,)
        case tree.Prior():
            return ("prior", item.name.id)
        case tree.Variant():
            return ("variant", item.name.id)


def _text(name: tree.Name | tree.String) -> str:
    return name.id if isinstance(name, tree.Name) else name.value


def key_text(item_key: Key) -> str:
    """Return how a message names the thing with this key."""
    return f"`{item_key[1]}`" if item_key[0] == "name" else f"`{' '.join(item_key)}`"


def check_duplicates(items: Iterable[tree.SpecItem], diagnostics: Diagnostics) -> None:
    """Record everything that one file says twice (HV0206); settings keys and defaults included."""
    seen: dict[Key, tree.SpecItem] = {}
    for item in items:
        if isinstance(item, tree.NeedsNode) or (isinstance(item, tree.HeaderNode) and item.kind == "use"):
            continue
        first = seen.setdefault(key_of(item), item)
        if first is not item:
            diagnostics.add(_duplicate(key_text(key_of(item)), _place(item), first.span.line))
        if isinstance(item, tree.SettingsNode | tree.Default):
            _check_settings(item.settings, diagnostics)
        if isinstance(item, tree.Section):
            check_duplicates((row for row in item.rows if not isinstance(row, tree.Row)), diagnostics)
        if isinstance(item, tree.Variant):
            check_duplicates(item.items, diagnostics)


def _check_settings(settings: Iterable[tree.Setting], diagnostics: Diagnostics) -> None:
    seen: dict[str, tree.Setting] = {}
    for setting in settings:
        first = seen.setdefault(_meaning_of_key(setting), setting)
        if first is not setting:
            diagnostics.add(_duplicate(f"`{setting.key.id}`", setting.key.span, first.span.line))
        if isinstance(setting, tree.ConditionNode):
            _check_settings(setting.settings, diagnostics)


def _place(item: tree.SpecItem) -> Span:
    if isinstance(item, tree.Let | tree.Shared | tree.RecipeNode | tree.Prior | tree.Variant):
        return item.name.span
    return item.operation.span if isinstance(item, tree.Default) else item.span


def _duplicate(what: str, span: Span, line: int) -> Diagnostic:
    return Diagnostic(
        DUPLICATE,
        f"{what} is said twice",
        span,
        found=f"again what line {line} says",
        expected="each thing once in a file",
        help="remove one of the two",
    )


def lets(layers: Iterable[Layer]) -> dict[str, tree.Expr]:
    """Return the value of each top-level `let`, the highest layer's."""
    values: dict[str, tree.Expr] = {}
    for layer in layers:
        for item in layer:
            if isinstance(item, tree.Let):
                values[item.name.id] = item.value
            elif isinstance(item, tree.Shared | tree.RecipeNode):
                values.pop(item.name.id, None)
    return values


def merge(layers: Iterable[Layer], values: Lets, diagnostics: Diagnostics) -> Layer:
    """Return the items of all layers merged; labels are evaluated with the merged lets `values`."""
    merged: dict[Key, tree.SpecItem] = {}
    for layer in layers:
        for item in layer:
            lower = merged.get(key_of(item))
            merged[key_of(item)] = _merge_item(lower, item, values, diagnostics)
    return tuple(merged.values())


def _merge_item(
    lower: tree.SpecItem | None, item: tree.SpecItem, values: Lets, diagnostics: Diagnostics
) -> tree.SpecItem:
    if isinstance(item, tree.Section):
        below = lower.rows if isinstance(lower, tree.Section) else ()
        return replace(item, rows=_merge_rows(item, below, values, diagnostics))
    if isinstance(item, tree.SettingsNode) and isinstance(lower, tree.SettingsNode):
        name = item.name if item.name is not None else lower.name
        return replace(lower, name=name, settings=merge_settings(lower.settings, item.settings))
    if isinstance(item, tree.Default) and isinstance(lower, tree.Default):
        return replace(lower, settings=merge_settings(lower.settings, item.settings))
    return item


def merge_settings(lower: tuple[tree.Setting, ...], upper: tuple[tree.Setting, ...]) -> tuple[tree.Setting, ...]:
    """Return the settings of both, the upper ones replacing those of the same key."""
    merged = {_meaning(s): s for s in lower}
    merged.update({_meaning(s): s for s in upper})
    # Two alternatives in one block are the user's contradiction: keep both, so that it is reported.
    doubled = [s for s in upper if merged[_meaning(s)] is not s]
    return (*merged.values(), *doubled)


def _meaning(setting: tree.Setting) -> str:
    key = _meaning_of_key(setting)
    return _ALTERNATIVES.get(key, key)


def _meaning_of_key(setting: tree.Setting) -> str:
    return f"given {setting.key.id}" if isinstance(setting, tree.ConditionNode) else setting.key.id


def _merge_rows(
    section: tree.Section,
    below: tuple[RowItem, ...],
    values: Lets,
    diagnostics: Diagnostics,
) -> tuple[RowItem, ...]:
    """Lay the rows of `section` over those `below`. Within one section a label stands once."""
    rows = list(below)
    known = {row_label(row, values, diagnostics): row for row in rows if isinstance(row, tree.Row)}
    own: dict[Size, tree.Row] = {}
    for item in section.rows:
        if not isinstance(item, tree.Row):
            if below:
                _put_definition(rows, item)
            else:
                rows.append(item)
            continue
        size = row_label(item, values, diagnostics)
        if size is None:
            continue
        if size in own:
            what = f"row {print_expression(item.label)} of the {section.kind}"
            diagnostics.add(_duplicate(what, item.label.span, own[size].span.line))
            continue
        own[size] = item
        lower = known.get(size)
        removes = isinstance(item.value, tree.Name) and item.value.id == "none"
        if removes and lower is None:
            diagnostics.add(_nothing_to_remove(item, section.kind))
        elif removes and lower is not None:
            rows.remove(lower)
        elif lower is not None:
            rows[rows.index(lower)] = item
        else:
            rows.insert(_position(rows, size, section.kind, values, diagnostics) if below else len(rows), item)
    return tuple(rows)


def _put_definition(rows: list[RowItem], item: tree.Let | tree.Shared | tree.Default) -> None:
    """Replace the definition of the same name, or add it before the rows that may use it."""
    for i, other in enumerate(rows):
        if isinstance(other, tree.Row) or key_of(other) != key_of(item):
            continue
        if isinstance(other, tree.Default) and isinstance(item, tree.Default):
            item = replace(other, settings=merge_settings(other.settings, item.settings))
        rows[i] = item
        return
    first = next((i for i, other in enumerate(rows) if isinstance(other, tree.Row)), len(rows))
    rows.insert(first, item)


def _position(
    rows: list[RowItem],
    size: Size,
    kind: str,
    values: Lets,
    diagnostics: Diagnostics,
) -> int:
    """Where a new label goes: encoder rows fall in size, decoder rows rise."""
    for i, row in enumerate(rows):
        if not isinstance(row, tree.Row):
            continue
        other = row_label(row, values, diagnostics)
        if other is None:
            continue
        after = other < size if kind == "encoder" else other > size
        if after:
            return i
    return len(rows)


def row_label(row: tree.Row, values: Lets, diagnostics: Diagnostics) -> Size | None:
    """Return the height and width that a row's label means; None after recording what is wrong (HV0212)."""
    with diagnostics.collecting():
        size = kernel(constant_value(row.label, values))
        if size is not None and min(size) > 0:
            return size
        raise Fault(
            BAD_LABEL,
            "a row's label is a resolution",
            row.label.span,
            f"`{print_expression(row.label)}`",
            "a positive whole number as `32`, or a height and width as `8x6`",
            "write the height of the map that the row works on",
        )
    return None


def _nothing_to_remove(row: tree.Row, kind: str) -> Diagnostic:
    return Diagnostic(
        NO_ROW_TO_REMOVE,
        f"there is no row {print_expression(row.label)} in the {kind} to remove",
        row.span,
        found="`none`, which removes the row of that label from what is extended",
        expected="a label that the extended spec has",
        help="remove this line, or correct the label",
    )
