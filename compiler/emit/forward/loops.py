"""Find the loops again: turns of a repeat that differ only in numbers that grow evenly become one loop body.

`x = self.layer[0](x, latents[0:1])`, `x = self.layer[1](x, latents[1:2])`, … gives
`for i in range(n): x = self.layer[i](x, latents[i : i + 1])`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count as counter

from hvdsl.compiler.emit.forward.steps import (
    Address,
    Body,
    Carried,
    Index,
    Item,
    ListItem,
    Loop,
    Ref,
    Repeat,
    Step,
    When,
    steps,
)
from hvdsl.compiler.graph import Edge

VARIABLES = "ijklmn"


class NotEvenError(Exception):
    """These turns are no loop: they differ in more than evenly growing numbers."""


def roll(items: tuple[Item, ...], outside: frozenset[Edge]) -> Body:
    """Replace each repeat by loops over its runs of even turns, or by its turns one after the other.

    `outside`: the values that leave the code altogether (the instance's results).
    """
    return _Roller(items, outside).body()


class _Roller:
    def __init__(self, items: tuple[Item, ...], outside: frozenset[Edge]) -> None:
        self._items = items
        self._outside = outside
        self._loops = counter()
        self._aliases: dict[Edge, Ref] = {}

    def body(self) -> Body:
        used = set(self._outside)
        return Body(self._roll(self._items, 0, frozenset(used)), self._aliases)

    def _roll(self, items: Sequence[Item], depth: int, after: frozenset[Edge]) -> tuple[Item, ...]:
        """`after`: values that are used behind these items."""
        done: list[Item] = []
        behind = _used_behind(items, after)
        for item, later in zip(items, behind, strict=True):
            if isinstance(item, Repeat):
                done += self._repeat(item, depth, later)
            elif isinstance(item, When):
                done.append(replace(item, items=self._roll(item.items, depth, later)))
            else:
                done.append(self._renamed(item))
        return tuple(done)

    def _renamed(self, item: Item) -> Item:
        if isinstance(item, Step) and any(i in self._aliases for i in item.inputs):
            return replace(item, inputs=tuple(self._known(i) for i in item.inputs))
        return item

    def _known(self, ref: Ref) -> Ref:
        while isinstance(ref, Edge) and ref in self._aliases:
            ref = self._aliases[ref]
        return ref

    def _repeat(self, repeat: Repeat, depth: int, after: frozenset[Edge]) -> list[Item]:
        done: list[Item] = []
        turns = [turn for turn in repeat.turns if any(True for _ in steps(turn))]  # nothing reads what others give
        while turns:
            for length in _run_lengths(turns):
                rest = [v for turn in turns[length:] for s in steps(turn) for v in s.inputs if isinstance(v, Edge)]
                later = after | frozenset(rest)
                if length == 1:
                    done += self._roll(turns[0], depth, later)
                    break
                try:
                    done.append(self._loop(turns[:length], depth, later))
                    break
                except NotEvenError:
                    continue
            turns = turns[length:]
        return done

    def _loop(self, turns: list[tuple[Item, ...]], depth: int, after: frozenset[Edge]) -> Loop:
        """One loop for all the turns.

        Raises:
            NotEvenError: if they are none.
        """
        known = dict(self._aliases)
        try:
            rolled = []
            for i, turn in enumerate(turns):
                following = [v for t in turns[i + 1 :] for s in steps(t) for v in s.inputs if isinstance(v, Edge)]
                rolled.append(self._roll(turn, depth + 1, after | frozenset(following)))
            merger = _Merger(rolled, next(self._loops), VARIABLES[depth])
            items = tuple(merger.items(rolled))
            merger.check_results(frozenset(r for r in map(self._known, after) if isinstance(r, Edge)))
        except NotEvenError:
            self._aliases = known
            raise
        self._aliases.update(merger.results())
        return Loop(merger.number, merger.variable, len(turns), items, merger.carried())


def _run_lengths(turns: Sequence[object]) -> list[int]:
    """All turns at once, or all but the first or the last, or one."""
    n = len(turns)
    return [n, n - 1, 1] if n > 2 else [n, 1] if n == 2 else [1]


def _used_behind(items: Sequence[Item], after: frozenset[Edge]) -> list[frozenset[Edge]]:
    behind = [after] if items else []
    for item in reversed(items[1:]):
        used = frozenset(v for s in steps((item,)) for v in s.inputs if isinstance(v, Edge))
        behind.append(behind[-1] | used)
    return behind[::-1]


class _Merger:
    """Lays the turns over one another."""

    def __init__(self, turns: list[tuple[Item, ...]], number: int, variable: str) -> None:
        self.number = number
        self.variable = variable
        self._inner: dict[int, int] = {}  # loops inside later turns -> the same loop in the first
        self._turn_of: dict[Edge, tuple[int, int]] = {}  # value -> turn, position in it
        self._values: list[list[Edge]] = []
        for t, turn in enumerate(turns):
            values = [v for s in steps(turn) for v in s.outputs]
            self._values.append(values)
            self._turn_of |= {v: (t, p) for p, v in enumerate(values)}
        self._carried: dict[tuple[int, Ref], Carried] = {}

    def items(self, turns: Sequence[Sequence[Item]]) -> list[Item]:
        if len({len(t) for t in turns}) != 1:
            raise NotEvenError
        return [self._item(versions) for versions in zip(*turns, strict=True)]

    def _item(self, versions: tuple[Item, ...]) -> Item:
        first = versions[0]
        if isinstance(first, Step):
            return self._step([v for v in versions if isinstance(v, Step)], len(versions))
        if isinstance(first, When):
            whens = [v for v in versions if isinstance(v, When)]
            self._same(len(whens), len(versions))
            items = tuple(self.items([w.items for w in whens]))
            return When(self._index([w.first for w in whens]), self._index([w.last for w in whens]), items)
        if isinstance(first, Loop):
            loops = [v for v in versions if isinstance(v, Loop)]
            self._same(len(loops), len(versions))
            return self._nested(loops)
        raise NotEvenError

    def _nested(self, loops: list[Loop]) -> Loop:
        first = loops[0]
        if len({(v.count, v.variable, len(v.carried)) for v in loops}) != 1:
            raise NotEvenError
        self._inner |= {v.number: first.number for v in loops}
        items = tuple(self.items([v.items for v in loops]))
        carried = []
        for same in zip(*(v.carried for v in loops), strict=True):
            before = self._ref([c[1] for c in same])
            following = self._ref([c[2] for c in same])
            carried.append((same[0][0], before, following))
        return Loop(first.number, first.variable, first.count, items, tuple(carried))

    def _step(self, versions: list[Step], count: int) -> Step:
        self._same(len(versions), count)
        first = versions[0]
        for other in versions[1:]:
            if (
                (first.kind, first.template, first.values, first.fills, len(first.inputs), len(first.outputs))
                != (other.kind, other.template, other.values, other.fills, len(other.inputs), len(other.outputs))
                or (first.holder, first.lent) != (other.holder, other.lent)
                or (first.callee is None) != (other.callee is None)
                or (first.callee and other.callee and first.callee.class_key != other.callee.class_key)
            ):
                raise NotEvenError
        names = versions[-1].names  # `h = f * 3` names what leaves the last turn only
        if any(v.names not in (names, (None,) * len(v.names)) for v in versions):
            raise NotEvenError
        latents = None
        if first.latents is not None:
            spans = [v.latents for v in versions if v.latents is not None]
            latents = (self._index([s[0] for s in spans]), self._index([s[1] for s in spans]))
        inputs = tuple(self._ref(refs) for refs in zip(*(v.inputs for v in versions), strict=True))
        module = self._address([v.module for v in versions])
        return replace(first, inputs=inputs, names=names, module=module, latents=latents)

    def _address(self, versions: list[Address]) -> Address:
        if len({len(v) for v in versions}) != 1:
            raise NotEvenError
        merged: list[str | Index] = []
        for parts in zip(*versions, strict=True):
            numbers = [p for p in parts if isinstance(p, Index)]
            if numbers:
                self._same(len(numbers), len(parts))
                merged.append(self._index(numbers))
            else:
                if len(set(parts)) != 1:
                    raise NotEvenError
                merged.append(parts[0])
        return tuple(merged)

    def _index(self, versions: list[Index]) -> Index:
        first, second = versions[:2]
        step = second.base - first.base
        if any(v.steps != first.steps or v.base != first.base + t * step for t, v in enumerate(versions)):
            raise NotEvenError
        return Index(first.base, (*first.steps, (self.variable, step))) if step else first

    def _ref(self, versions: Sequence[Ref]) -> Ref:
        first = versions[0]
        if isinstance(first, ListItem):
            items = [v for v in versions if isinstance(v, ListItem) and v.list == first.list]
            self._same(len(items), len(versions))
            return ListItem(first.list, self._index([i.index for i in items]))
        if all(isinstance(v, Carried) for v in versions):
            same = {(self._inner.get(v.loop, v.loop), v.number) for v in versions if isinstance(v, Carried)}
            if len(same) != 1:
                raise NotEvenError
            return first
        places = [self._turn_of.get(v) if isinstance(v, Edge) else None for v in versions]
        if places[0] is not None and all(p == (t, places[0][1]) for t, p in enumerate(places)):
            return first
        if places[0] is None and len(set(versions)) == 1:
            return first
        before = places[1]
        if places[0] is None and before and all(p == (t, before[1]) for t, p in enumerate(places[1:])):
            return self._hand_on(before[1], first)
        raise NotEvenError

    def _hand_on(self, position: int, initial: Ref) -> Carried:
        key = (position, initial)
        if key not in self._carried:
            if any(p == position for p, _ in self._carried):
                raise NotEvenError
            self._carried[key] = Carried(self.number, len(self._carried))
        return self._carried[key]

    def _same(self, found: int, count: int) -> None:
        if found != count:
            raise NotEvenError

    def carried(self) -> tuple[tuple[Carried, Ref, Ref], ...]:
        return tuple((slot, initial, self._values[0][p]) for (p, initial), slot in self._carried.items())

    def check_results(self, after: frozenset[Edge]) -> None:
        """Only the last turn's values are known after a loop.

        Raises:
            NotEvenError: if those of another are needed there.
        """
        if any(v in after for values in self._values[:-1] for v in values):
            raise NotEvenError

    def results(self) -> dict[Edge, Ref]:
        return dict(zip(self._values[-1], self._values[0], strict=True))
