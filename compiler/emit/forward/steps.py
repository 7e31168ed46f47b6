"""What a forward method does, before it is text: steps, loops and conditional parts over single-assignment values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from hvdsl.compiler.emit.syntax import Template
from hvdsl.compiler.graph import Edge, Literal
from hvdsl.grammar.record import Record, record

if TYPE_CHECKING:
    from hvdsl.compiler.emit.modules.instance import ModuleInstance


@record
class Index(Record):
    """`base + sum(step * variable)`: the number of a module, a latent or a list item, perhaps inside loops."""

    base: int
    steps: tuple[tuple[str, int], ...] = ()

    def shifted(self, by: int) -> Index:
        return replace(self, base=self.base + by)


@record
class ListItem(Record):
    """A tensor of a list: taps that repeats publish."""

    list: str
    index: Index


@record
class Carried(Record):
    """What a loop hands from turn to turn."""

    loop: int
    number: int


Ref: TypeAlias = Edge | ListItem | Carried
Address: TypeAlias = tuple[str | Index, ...]  # a submodule, from the module that holds the code


class StepKind(StrEnum):
    EXPRESSION = "expression"
    LAYER = "layer"
    CALL = "call"  # a recipe's or a section's forward
    START = "start"  # a posterior's sample, before its flow
    INFER = "infer"  # a latent's value on the way up
    DRAW = "draw"
    ALIAS = "alias"  # another name for a tensor
    APPEND = "append"  # to a list of taps


DRAWS = (StepKind.START, StepKind.INFER, StepKind.DRAW)
"""What asks a group of the traversal."""


@record
class Step(Record):
    kind: StepKind
    inputs: tuple[Ref, ...]
    outputs: tuple[Edge, ...] = ()
    names: tuple[str | None, ...] = ()
    template: Template | None = None
    values: tuple[Literal, ...] = ()  # the expression's literals
    module: Address = ()  # from `holder`
    holder: str = "self"  # or the argument by which a shared instance came in
    callee: ModuleInstance | None = None
    lent: tuple[Address, ...] = ()  # shared instances that the callee takes; one that came in is its argument's name
    latents: tuple[Index, Index] | None = None  # the part of the instance's latents that it takes, or draws
    fills: tuple[str, ...] = ()  # lists of taps that it makes or extends
    needed: tuple[int, int] | None = None  # posterior only: the latents (of the model) that depend on it


@record
class Repeat(Record):
    """`step * n` as the graph has it: n turns."""

    turns: tuple[tuple[Item, ...], ...]


@record
class Loop(Record):
    number: int
    variable: str
    count: int
    items: tuple[Item, ...]
    carried: tuple[tuple[Carried, Ref, Ref], ...]  # what it is inside, what it was before, what the turn makes of it


@record
class When(Record):
    """What only the posterior of these latents needs."""

    first: Index
    last: Index
    items: tuple[Item, ...]


Item: TypeAlias = Step | Repeat | Loop | When


@dataclass(slots=True)
class Body:
    items: tuple[Item, ...]
    aliases: dict[Edge, Ref] = field(default_factory=dict)  # values of a last turn, as they are known after its loop

    def known(self, ref: Ref) -> Ref:
        """The value of the written code that `ref` became."""
        while isinstance(ref, Edge) and ref in self.aliases:
            ref = self.aliases[ref]
        return ref


def steps(items: tuple[Item, ...]) -> Iterator[Step]:
    """Every step inside, in order."""
    for item in items:
        if isinstance(item, Step):
            yield item
        elif isinstance(item, Repeat):
            for turn in item.turns:
                yield from steps(turn)
        else:
            yield from steps(item.items)


def schedule_items(items: tuple[Item, ...], first_latent: int) -> tuple[Item, ...]:
    """Move posterior-only items down to where their results are used, and wrap them in `When`.

    `first_latent` is the number, in the model, of the instance's latent 0.
    """
    done: list[Item] = []
    waiting: list[Item] = []
    for item in items:
        if _needed(item) is not None:
            waiting.append(item)
            continue
        wanted = _wanted(item, waiting)
        done += _conditions(wanted, first_latent)
        waiting = [w for w in waiting if not any(w is x for x in wanted)]
        if isinstance(item, Repeat):
            item = replace(item, turns=tuple(schedule_items(t, first_latent) for t in item.turns))
        done.append(item)
    return tuple(done + _conditions(waiting, first_latent))


def _needed(item: Item) -> tuple[int, int] | None:
    """The latents whose posteriors need the whole item; None if anything of it runs in generation too."""
    ranges = [s.needed for s in steps((item,))]
    known = [r for r in ranges if r is not None]
    if not known or len(known) != len(ranges):
        return None
    return min(r[0] for r in known), max(r[1] for r in known)


def _wanted(item: Item, waiting: list[Item]) -> list[Item]:
    """What of the waiting items feeds `item`, directly or through others."""
    uses = _inputs(item)
    wanted: list[Item] = []
    for candidate in reversed(waiting):
        if _outputs(candidate) & uses:
            wanted.append(candidate)
            uses |= _inputs(candidate)
    return wanted[::-1]


def _inputs(item: Item) -> set[Edge | str]:
    """The values that an item takes, and the lists that it takes values from."""
    taken: set[Edge | str] = set()
    for step in steps((item,)):
        for ref in step.inputs:
            if not isinstance(ref, Carried):
                taken.add(ref.list if isinstance(ref, ListItem) else ref)
    return taken


def _outputs(item: Item) -> set[Edge | str]:
    given: set[Edge | str] = set()
    for step in steps((item,)):
        given.update(step.outputs)
        given.update(step.fills)
    return given


def _conditions(items: list[Item], first_latent: int) -> list[Item]:
    done: list[Item] = []
    for item in items:
        needed = _needed(item)
        if needed is None:
            raise AssertionError("only posterior items wait")
        first, last = (Index(n - first_latent) for n in needed)
        before = done[-1] if done else None
        if isinstance(before, When) and (before.first, before.last) == (first, last):
            done[-1] = replace(before, items=(*before.items, item))
        else:
            done.append(When(first, last, (item,)))
    return done
