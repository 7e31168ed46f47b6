"""Put what only a posterior needs under its condition, right before the draw that needs it."""

from __future__ import annotations

from dataclasses import replace

from hvdsl.compiler.emit.steps import Carried, Index, Item, ListItem, Repeat, When, steps
from hvdsl.compiler.graph import Edge


def schedule(items: tuple[Item, ...], first_latent: int) -> tuple[Item, ...]:
    """Move posterior-only items down to where their results are used, and wrap them in `When`.

    `first_latent` is the number, in the model, of the unit's latent 0.
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
            item = replace(item, turns=tuple(schedule(t, first_latent) for t in item.turns))
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
    found: set[Edge | str] = set()
    for step in steps((item,)):
        for ref in step.inputs:
            if not isinstance(ref, Carried):
                found.add(ref.list if isinstance(ref, ListItem) else ref)
    return found


def _outputs(item: Item) -> set[Edge | str]:
    found: set[Edge | str] = set()
    for step in steps((item,)):
        found.update(step.outputs)
        found.update(step.fills)
    return found


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
