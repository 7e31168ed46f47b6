"""Functions that a part applies to its own result, in place: gates, with the sum that follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hvdsl.compiler.catalogue.activations import GLU
from hvdsl.compiler.emit.stepwise.plan import Attention, Codes, Linear, Plan, Pointwise, Sum, Taps, Unit

Users: TypeAlias = Mapping[Unit, Sequence[Unit]]


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`glu` of what `source` gives, added to `plus`; it takes the place of the units `inside`."""

    source: Taps | Linear
    plus: Unit | None
    inside: tuple[Unit, ...]


def users(plan: Plan) -> Users:
    """The units that read each unit, in order of computation."""
    found: dict[Unit, list[Unit]] = {unit: [] for unit in plan.units}
    for unit in plan.units:
        for source in dict.fromkeys(_sources(unit)):
            found[source].append(unit)
    return found


def gates(plan: Plan, users: Users) -> dict[Unit, Gate]:
    """The gates of a plan, by the unit that each takes the place of last."""
    found: dict[Unit, Gate] = {}
    for unit in plan.units:
        if not isinstance(unit, Pointwise) or unit.ops[0].node.operation is not GLU or not owned(unit, users):
            continue
        source = unit.sources[0]
        if not isinstance(source, Taps | Linear) or len(unit.ops) != len(plan.parts[source]):
            continue
        follower = users[unit][0] if len(users[unit]) == 1 else None
        others = [term for term in follower.terms if term is not unit] if isinstance(follower, Sum) else []
        if follower is not None and follower not in found and len(others) == len(unit.ops) == 1:
            found[follower] = Gate(source, others[0], (source, unit))
        else:
            found[unit] = Gate(source, None, (source,))
    return found


def owned(unit: Pointwise, users: Users) -> bool:
    """Whether a function is the only reader of what one part computes into a buffer of its own."""
    return len(unit.sources) == 1 and isinstance(unit.sources[0], Taps | Linear) and users[unit.sources[0]] == [unit]


def _sources(unit: Unit) -> list[Unit]:
    match unit:
        case Codes():
            return []
        case Taps():
            return [unit.source]
        case Linear():
            return unit.map.slots
        case Sum():
            return unit.terms
        case Pointwise() | Attention():
            return unit.sources
