"""Which values need no name: those used once, right in the expression that takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hvdsl.compiler.emit.steps import DRAWS, Item, Kind, Loop, Ref, Step, When
from hvdsl.compiler.graph import Edge

STATEFUL = (Kind.LAYER, Kind.CALL)
LONGEST = 5  # operations in one expression


@dataclass(slots=True)
class Inlined:
    """`within`: steps whose one result stands in the expression of another; `returned`: those that the return says."""

    within: dict[Edge, Step] = field(default_factory=dict)
    returned: set[Edge] = field(default_factory=set)

    def __contains__(self, ref: object) -> bool:
        return ref in self.within


def inline(items: tuple[Item, ...], results: tuple[Ref, ...]) -> Inlined:
    """Decide for a whole body. `results` are what it returns."""
    counts = _count(items)
    counts.update(results)
    found = Inlined()
    weights: dict[Edge, tuple[int, bool]] = {}
    _block(items, counts, found, weights)
    last = items[-1] if items else None
    if isinstance(last, Step) and len(results) == 1 and last.outputs == results[:1] and counts[results[0]] == 1:
        found.within[last.outputs[0]] = last
        found.returned.add(last.outputs[0])
    return found


def _count(items: tuple[Item, ...]) -> Counter[Ref]:
    counts: Counter[Ref] = Counter()
    for item in items:
        if isinstance(item, Step):
            counts.update(item.inputs)
        elif isinstance(item, When):
            counts.update(_count(item.items))
        elif isinstance(item, Loop):
            counts.update(_count(item.items))
            for _, before, following in item.carried:
                counts.update({before: 2, following: 2})  # a variable of its own
    return counts


def _block(
    items: tuple[Item, ...], counts: Mapping[Ref, int], found: Inlined, weights: dict[Edge, tuple[int, bool]]
) -> None:
    """One level of code. `weights` of a value: operations in its expression, and whether a layer is among them."""
    made: dict[Ref, Step] = {}
    for item in items:
        if isinstance(item, Step):
            size, stateful = 1, item.kind in STATEFUL
            for ref in item.inputs:
                source = made.get(ref)
                if source is None or not isinstance(ref, Edge):
                    continue
                inner, inner_stateful = weights[ref]
                if not _fits(source, item, inner + size, inner_stateful, counts[ref]):
                    continue
                found.within[ref] = source
                size, stateful = size + inner, stateful or inner_stateful
            for value in item.outputs:
                weights[value] = size, stateful
            if len(item.outputs) == 1:
                made[item.outputs[0]] = item
        elif isinstance(item, Loop | When):
            _block(item.items, counts, found, weights)


def _fits(source: Step, into: Step, size: int, stateful: bool, uses: int) -> bool:
    if uses != 1 or source.names[:1] not in ((), (None,)) or source.kind in (*DRAWS, Kind.ALIAS):
        return False
    if into.kind in DRAWS and stateful:
        return False
    if stateful and (
        into.kind in STATEFUL or (into.kind is Kind.EXPRESSION and len(into.inputs) == len(into.outputs) == 1)
    ):
        return False  # one layer a line, with the activation before it
    return size <= LONGEST and (source.callee is None or source.latents is None)


def used(step: Step, inlined: Inlined) -> list[Ref]:
    """The variables that a statement reads, those of the expressions inside it included."""
    found: list[Ref] = []
    for ref in step.inputs:
        if isinstance(ref, Edge) and ref in inlined.within and ref not in inlined.returned:
            found += used(inlined.within[ref], inlined)
        else:
            found.append(ref)
    return found
