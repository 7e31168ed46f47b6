"""Which instances share a class: those of one recipe that do the same, up to the numbers in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from hvdsl.compiler.catalogue.table import Layer
from hvdsl.compiler.diagnostics.emission import USES_DIFFER
from hvdsl.compiler.emit.steps import Item, ListItem, Ref, Repeat, Step, When
from hvdsl.compiler.emit.unit import OwnUse, Unit
from hvdsl.compiler.graph import Edge, Scope
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


def forms(*roots: Unit) -> list[list[Unit]]:
    """Group all units by form, the parts of a class before the class itself, and number them in `Unit.form`.

    Recipes of several graphs share classes; a graph itself and its sections are its own.
    """
    known: dict[Hashable, int] = {}
    groups: dict[int, list[Unit]] = defaultdict(list)

    def visit(unit: Unit) -> None:
        for part in unit.parts():
            visit(part)
        owner = unit.graph.name if unit.is_section else ""
        unit.form = known.setdefault((owner, _form(unit)), len(known))
        groups[unit.form].append(unit)

    for root in roots:
        visit(root)
    found = [groups[i] for i in range(len(groups))]
    _check_shared(found)
    return found


def _check_shared(groups: list[list[Unit]]) -> None:
    """One instance has one form, wherever it is used.

    Raises:
        SpecError: HV0805, for shared instances that have several.
    """
    form_of: dict[tuple[str, str], int] = {}
    for units in groups:
        for unit in units:
            if form_of.setdefault((unit.graph.name, unit.scope.path), unit.form) != unit.form:
                raise SpecError([uses_differ(unit.scope)])


def uses_differ(scope: Scope) -> Diagnostic:
    told = f"the uses of `{scope.path}` are not the same computation"
    help = "what a shared instance does may not depend on the place of its use, as by `res`, `index` or `skip`"
    return Diagnostic(USES_DIFFER, told, scope.span, expected="one computation at every use", help=help)


def _form(unit: Unit) -> Hashable:
    numbers: dict[Edge, int] = {}
    entries = tuple((address, _entry(entry)) for address, entry in unit.entries.items())
    inputs = tuple(_ref(v, numbers) for v in unit.inputs)
    items = tuple(_item(i, numbers) for i in unit.items)
    outputs = tuple(_ref(v, numbers) for v in unit.outputs)
    lent = tuple(unit.borrowed.values())
    return unit.scope.kind, unit.scope.name, unit.takes_latents, lent, inputs, entries, items, outputs


def _entry(entry: Layer | Unit | OwnUse) -> Hashable:
    if isinstance(entry, Unit):
        return entry.form
    if isinstance(entry, OwnUse):
        return entry
    return entry.name, len(entry.args)


def _ref(ref: Ref, numbers: dict[Edge, int]) -> Hashable:
    if isinstance(ref, ListItem):
        return ref
    if isinstance(ref, Edge):
        return numbers.setdefault(ref, len(numbers))
    raise AssertionError("loops are found after forms")


def _item(item: Item, numbers: dict[Edge, int]) -> Hashable:
    if isinstance(item, Repeat):
        return "repeat", tuple(tuple(_item(i, numbers) for i in turn) for turn in item.turns)
    if isinstance(item, When):
        return "when", item.first, item.last, tuple(_item(i, numbers) for i in item.items)
    if not isinstance(item, Step):
        raise AssertionError("loops are found after forms")
    inputs = tuple(_ref(i, numbers) for i in item.inputs)
    outputs = tuple(_ref(o, numbers) for o in item.outputs)
    return (
        item.kind,
        item.template,
        inputs,
        outputs,
        item.holder,
        item.module,
        item.lent,
        item.latents,
        item.fills,
        item.callee and item.callee.form,
    )
