"""Which variable holds which value: the spec's names where it gave any, else `x` where that is free, else `h`."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hvdsl.compiler.emit import runtime_index
from hvdsl.compiler.emit.inlining import Inlined, used
from hvdsl.compiler.emit.names import MODULE_LEVEL, identifier
from hvdsl.compiler.emit.steps import Item, Loop, Ref, Step, When
from hvdsl.compiler.graph import Edge

FORBIDDEN = MODULE_LEVEL | {"self", "latents", "i", "j", "k", "range", "enumerate"}


@dataclass(slots=True)
class Lifetimes:
    """Positions of a body in order of execution: of items, and of the last use of each value."""

    start: dict[int, int] = field(default_factory=dict)  # id of an item
    stop: dict[int, int] = field(default_factory=dict)
    made: dict[Ref, int] = field(default_factory=dict)
    last: dict[Ref, int] = field(default_factory=dict)
    end: int = 0


def lifetimes(items: Sequence[Item], inlined: Inlined, arguments: Iterable[Ref], results: Iterable[Ref]) -> Lifetimes:
    """Find when values are made and last used: what a loop uses of before it lasts as long as the loop."""
    times = Lifetimes()
    for ref in arguments:
        times.made[ref] = 0
    times.end = _positions(items, inlined, times, 1)
    _uses(items, inlined, times, [])
    for ref in results:
        if isinstance(ref, Edge) and ref in inlined.returned:
            for inner in used(inlined.within[ref], inlined):
                times.last[inner] = times.end
        times.last[ref] = times.end
    return times


def _positions(items: Sequence[Item], inlined: Inlined, times: Lifetimes, now: int) -> int:
    for item in items:
        times.start[id(item)] = now
        if isinstance(item, Step):
            for value in item.outputs:
                times.made[value] = now
        elif isinstance(item, Loop | When):
            if isinstance(item, Loop):
                for slot, _, _ in item.carried:
                    times.made[slot] = now
            now = _positions(item.items, inlined, times, now + 1)
        times.stop[id(item)] = now
        now += 1
    return now


def _uses(items: Sequence[Item], inlined: Inlined, times: Lifetimes, loops: list[Loop]) -> None:
    for item in items:
        if isinstance(item, Step):
            if item.outputs and item.outputs[0] in inlined:
                continue
            for ref in used(item, inlined):
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
        if times.made.get(ref, 0) < times.start[id(loop)]:
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
        self._until[name] = max(self._times.last.get(ref, 0), self._times.made.get(ref, 0) + 1)

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
