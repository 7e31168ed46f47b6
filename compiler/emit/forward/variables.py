"""Which values need a name, and which variable holds which: the spec's names, else `x` where that is free, else `h`."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hvdsl.compiler.emit import runtime_index
from hvdsl.compiler.emit.forward.steps import DRAWS, Item, Loop, Ref, Step, StepKind, When
from hvdsl.compiler.emit.syntax import MODULE_LEVEL, identifier
from hvdsl.compiler.graph import Edge

STATEFUL = (StepKind.LAYER, StepKind.CALL)
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
    inlined = Inlined()
    weights: dict[Edge, tuple[int, bool]] = {}
    _block(items, counts, inlined, weights)
    last = items[-1] if items else None
    if isinstance(last, Step) and len(results) == 1 and last.outputs == results[:1] and counts[results[0]] == 1:
        inlined.within[last.outputs[0]] = last
        inlined.returned.add(last.outputs[0])
    return inlined


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
    maker: dict[Ref, Step] = {}
    for item in items:
        if isinstance(item, Step):
            size, stateful = 1, item.kind in STATEFUL
            for ref in item.inputs:
                source = maker.get(ref)
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
                maker[item.outputs[0]] = item
        elif isinstance(item, Loop | When):
            _block(item.items, counts, found, weights)


def _fits(source: Step, into: Step, size: int, stateful: bool, uses: int) -> bool:
    if uses != 1 or source.names[:1] not in ((), (None,)) or source.kind in (*DRAWS, StepKind.ALIAS):
        return False
    if into.kind in DRAWS and stateful:
        return False
    if stateful and (
        into.kind in STATEFUL or (into.kind is StepKind.EXPRESSION and len(into.inputs) == len(into.outputs) == 1)
    ):
        return False  # one layer a line, with the activation before it
    return size <= LONGEST and (source.callee is None or source.latents is None)


def used_refs(step: Step, inlined: Inlined) -> list[Ref]:
    """The variables that a statement reads, those of the expressions inside it included."""
    refs: list[Ref] = []
    for ref in step.inputs:
        if isinstance(ref, Edge) and ref in inlined.within and ref not in inlined.returned:
            refs += used_refs(inlined.within[ref], inlined)
        else:
            refs.append(ref)
    return refs


FORBIDDEN = MODULE_LEVEL | {"self", "latents", "i", "j", "k", "range", "enumerate", "next"}


@dataclass(slots=True)
class Lifetimes:
    """Positions of a body in order of execution: of items, and of the last use of each value."""

    start: dict[int, int] = field(default_factory=dict)  # id of an item
    stop: dict[int, int] = field(default_factory=dict)
    since: dict[Ref, int] = field(default_factory=dict)
    last: dict[Ref, int] = field(default_factory=dict)
    end: int = 0


def lifetimes(items: Sequence[Item], inlined: Inlined, arguments: Iterable[Ref], results: Iterable[Ref]) -> Lifetimes:
    """Find when values are made and last used: what a loop uses of before it lasts as long as the loop."""
    times = Lifetimes()
    for ref in arguments:
        times.since[ref] = 0
    times.end = _positions(items, inlined, times, 1)
    _uses(items, inlined, times, [])
    for ref in results:
        if isinstance(ref, Edge) and ref in inlined.returned:
            for inner in used_refs(inlined.within[ref], inlined):
                times.last[inner] = times.end
        times.last[ref] = times.end
    return times


def _positions(items: Sequence[Item], inlined: Inlined, times: Lifetimes, now: int) -> int:
    for item in items:
        times.start[id(item)] = now
        if isinstance(item, Step):
            for value in item.outputs:
                times.since[value] = now
        elif isinstance(item, Loop | When):
            if isinstance(item, Loop):
                for slot, _, _ in item.carried:
                    times.since[slot] = now
            now = _positions(item.items, inlined, times, now + 1)
        times.stop[id(item)] = now
        now += 1
    return now


def _uses(items: Sequence[Item], inlined: Inlined, times: Lifetimes, loops: list[Loop]) -> None:
    for item in items:
        if isinstance(item, Step):
            if item.outputs and item.outputs[0] in inlined:
                continue
            for ref in used_refs(item, inlined):
                _use(ref, times.start[id(item)], times, loops)
        elif isinstance(item, When):
            _uses(item.items, inlined, times, loops)
        elif isinstance(item, Loop):
            for _, before, _ in item.carried:
                _use(before, times.start[id(item)], times, loops)
            _uses(item.items, inlined, times, [*loops, item])
            for slot, _, following in item.carried:
                times.last[following] = max(times.last.get(following, 0), times.stop[id(item)])
                times.last.setdefault(slot, times.start[id(item)])


def _use(ref: Ref, now: int, times: Lifetimes, loops: list[Loop]) -> None:
    for loop in loops:
        if times.since.get(ref, 0) < times.start[id(loop)]:
            now = times.stop[id(loop)]
            break
    times.last[ref] = max(times.last.get(ref, 0), now)


class Variables:
    """Assigns names while code is written, in order."""

    def __init__(self, times: Lifetimes) -> None:
        self._times = times
        self._name: dict[Ref, str] = {}
        self._until: dict[str, int] = {}  # how long a name is taken

    def __getitem__(self, ref: Ref) -> str:
        return self._name[ref]

    def get(self, ref: Ref) -> str | None:
        return self._name.get(ref)

    def __contains__(self, ref: Ref) -> bool:
        return ref in self._name

    def bind(self, ref: Ref, wanted: str | None, now: int, fallback: Sequence[str] = ("x", "h")) -> str:
        """Name a value that is made at `now`; a name is free where what it held is not used after."""
        candidates = [wanted] if wanted else list(fallback)
        name = next((n for n in map(allowed, candidates) if self._free(n, now)), None)
        if name is None:
            name, number = allowed(candidates[-1]), 2
            while not self._free(f"{name}_{number}", now):
                number += 1
            name = f"{name}_{number}"
        self.hold(ref, name)
        return name

    def hold(self, ref: Ref, name: str) -> None:
        """Say that a variable now holds `ref`."""
        self._name[ref] = name
        self._until[name] = max(self._times.last.get(ref, 0), self._times.since.get(ref, 0) + 1)

    def reserve(self, name: str, now: int, until: int) -> str:
        """Take a name for a loop's own variable."""
        name = allowed(name)
        while not self._free(name, now):
            name += "_"
        self._until[name] = until + 1
        return name

    def is_last(self, ref: Ref, now: int) -> bool:
        return self._times.last.get(ref, 0) <= now

    def _free(self, name: str, now: int) -> bool:
        return self._until.get(name, 0) <= now


def allowed(name: str) -> str:
    """The name, with an underscore where Python, torch or the runtime already mean something by it."""
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in FORBIDDEN or name in runtime_index.exports():
        name += "_"
    return identifier(name)
