"""The plan of one position: linear maps folded and joined, everything else in an order in which it can be computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hvdsl.compiler.catalogue.activations import GLU
from hvdsl.compiler.catalogue.joins import ADD
from hvdsl.compiler.emit.stepwise.flow import Flow, Kind, Op, Ref
from hvdsl.compiler.graph import Graph


@dataclass(slots=True, eq=False)
class Map:
    """A linear map, up to a constant, of the tensors `slots` to `roots` side by side; `known` is static and enters it.

    `halves` says that the first halves of all roots come first, as a joint `glu` takes them.
    """

    roots: list[Ref]
    slots: list[Unit] = field(default_factory=list)
    known: list[Ref] = field(default_factory=list)
    halves: bool = False


@dataclass(slots=True, eq=False)
class Codes:
    """The first layers: all that convolutions of the codes give, through one map."""

    map: Map
    convolutions: list[Op]


@dataclass(slots=True, eq=False)
class Taps:
    """A causal convolution of `source`, through a map that may be the identity."""

    map: Map
    convolution: Op
    source: Unit


@dataclass(slots=True, eq=False)
class Linear:
    map: Map


@dataclass(slots=True, eq=False)
class Sum:
    terms: list[Unit]


@dataclass(slots=True, eq=False)
class Pointwise:
    """One function, of one tensor or of several; `ops` are those that it computes side by side."""

    ops: list[Op]
    sources: list[Unit]


@dataclass(slots=True, eq=False)
class Attention:
    op: Op
    sources: list[Unit]  # one that holds query, key and value side by side, or these three


Unit: TypeAlias = Codes | Taps | Linear | Sum | Pointwise | Attention


@dataclass(slots=True)
class Plan:
    """`units` in order of computation, the last gives the logits; `parts`: the tensors side by side in each."""

    units: list[Unit]
    parts: dict[Unit, list[Ref]]


def plan(graph: Graph) -> Plan:
    """Derive the position-by-position form of a causal prior.

    Raises:
        SpecError: HV0801, for what has no such form; `check` has then raised it before.
    """
    return _Planner(Flow(graph)).result()


class _Planner:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._users: dict[Ref, list[Op]] = {}
        for op in flow.ops:
            for ref in op.inputs:
                self._users.setdefault(ref, []).append(op)
        self._units: list[Unit] = []
        self._parts: dict[Unit, list[Ref]] = {}
        self._unit_of: dict[Ref, Unit] = {}
        self._kept = self._materialised()
        self._depths: dict[Ref, int] = {}

    def result(self) -> Plan:
        for group in self._groups():
            self._place(group)
        return Plan(self._units, self._parts)

    # -- what exists as a tensor

    def _materialised(self) -> set[Ref]:
        """Tensors that something other than a linear map takes, sums of such tensors, and the result."""
        kept: set[Ref] = {self._flow.result}
        for op in self._flow.ops:
            if op.kind in (Kind.TAPS, Kind.POINTWISE, Kind.ATTENTION):
                kept.add((op, 0))
            if op.kind is Kind.LINEAR:
                for port in range(len(op.channels)):
                    if any(user.kind is not Kind.LINEAR for user in self._users.get((op, port), ())):
                        kept.add((op, port))
                if op.node.operation is ADD and all(ref in kept and not _of_codes(ref[0]) for ref in op.inputs):
                    kept.add((op, 0))
        return kept

    def _frontier(self, root: Ref) -> tuple[list[Ref], list[Ref]]:
        """The tensors that a root is a linear map of, and the static ones that enter; in order of use."""
        dynamic: dict[Ref, None] = {}
        known: dict[Ref, None] = {}

        def walk(ref: Ref) -> None:
            op = ref[0]
            if op.kind is Kind.STATIC and not op.linear:
                known[ref] = None
            elif op.kind is not Kind.STATIC and ref in self._kept and ref != root:
                dynamic[ref] = None
            else:
                for inner in op.inputs:
                    walk(inner)

        walk(root)
        return list(dynamic), list(known)

    # -- what is computed together

    def _groups(self) -> list[list[Ref]]:
        """Materialised tensors by depth; those that are computed side by side are together."""
        order = [(op, port) for op in self._flow.ops for port in range(len(op.channels)) if (op, port) in self._kept]
        levels: dict[int, list[Ref]] = {}
        for ref in order:
            levels.setdefault(self._depth(ref), []).append(ref)
        groups: list[list[Ref]] = []
        for depth in sorted(levels):
            joined: dict[object, list[Ref]] = {}
            for ref in levels[depth]:
                joined.setdefault(self._together(ref), []).append(ref)
            groups += joined.values()
        return groups

    def _depth(self, ref: Ref) -> int:
        if ref not in self._depths:
            op = ref[0]
            before = self._frontier(ref)[0] if op.kind is Kind.LINEAR else [r for r in op.inputs if r in self._kept]
            self._depths[ref] = 1 + max((self._depth(r) for r in before), default=0)
        return self._depths[ref]

    def _together(self, ref: Ref) -> object:
        """Linear maps join where one function, or one attention, takes them all; functions of joined maps join too."""
        op = ref[0]
        if op.kind is Kind.LINEAR and not self._is_sum(ref) and not self._folds_into_taps(ref):
            users = [u for u in self._users.get(ref, ()) if u.kind is not Kind.STATIC]
            if len(users) == 1 and users[0].kind is Kind.ATTENTION:
                return users[0]
            if len(users) == 1 and _of_parts(users[0]):
                return _function(users[0])
        if _of_parts(op):
            source = op.inputs[0]
            if source[0].kind is Kind.LINEAR and self._together(source) == _function(op):
                return "function", _function(op)
        return ref

    def _is_sum(self, ref: Ref) -> bool:
        return (
            ref[0].node.operation is ADD
            and ref[0].kind is Kind.LINEAR
            and all(r in self._kept and not _of_codes(r[0]) for r in ref[0].inputs)
        )

    def _folds_into_taps(self, ref: Ref) -> bool:
        """Whether a linear tensor is a map of one convolution alone, or of convolutions of the codes."""
        dynamic, _ = self._frontier(ref)
        if not dynamic or any(r[0].kind is not Kind.TAPS for r in dynamic):
            return False
        alone = all(len(self._roots_from(r)) == 1 for r in dynamic)
        return alone and (len(dynamic) == 1 or all(_of_codes(r[0]) for r in dynamic))

    def _roots_from(self, ref: Ref) -> set[Ref]:
        """The materialised tensors that `ref` flows into, through linear steps or at once."""
        found: set[Ref] = set()
        for user in self._users.get(ref, ()):
            for port in range(len(user.channels)):
                if (user, port) in self._kept:
                    found.add((user, port))
                elif user.kind is Kind.LINEAR:
                    found |= self._roots_from((user, port))
        return found

    # -- units

    def _place(self, group: list[Ref]) -> None:
        first = group[0]
        op = first[0]
        if op.kind is Kind.TAPS:
            follower = self._follower(first)
            if follower is None:
                self._add(self._taps([first], Map([first])), group)
        elif op.kind is Kind.POINTWISE:
            self._pointwise(group)
        elif op.kind is Kind.ATTENTION:
            self._add(Attention(op, _distinct([self._unit_of[r] for r in op.inputs])), group)
        elif self._is_sum(first):
            self._add(Sum([self._unit_of[r] for r in op.inputs]), group)
        elif self._folds_into_taps(first):
            dynamic, known = self._frontier(first)
            self._add(self._taps(dynamic, Map([first], known=known)), group)
        else:
            self._linear(group)

    def _follower(self, ref: Ref) -> Ref | None:
        """The linear tensor that a convolution is folded into."""
        roots = self._roots_from(ref)
        for root in roots:
            if root[0].kind is Kind.LINEAR and not self._is_sum(root) and self._folds_into_taps(root):
                return root
        return None

    def _taps(self, convolutions: list[Ref], map: Map) -> Codes | Taps:
        ops = [ref[0] for ref in convolutions]
        if _of_codes(ops[0]):
            return Codes(map, ops)
        return Taps(map, ops[0], self._unit_of[ops[0].inputs[0]])

    def _pointwise(self, group: list[Ref]) -> None:
        """Joined functions take the whole of what their map computed, in its order."""
        sources = _distinct([self._unit_of[r] for ref in group for r in ref[0].inputs])
        if len(group) > 1:
            whole = self._parts[sources[0]]
            group = sorted(group, key=lambda ref: whole.index(ref[0].inputs[0]))
        self._add(Pointwise([ref[0] for ref in group], sources), group)

    def _linear(self, group: list[Ref]) -> None:
        users = self._users.get(group[0], [])
        if users and users[0].kind is Kind.ATTENTION and len(users) == 1:
            order = list(users[0].inputs)
            group = sorted(group, key=order.index)
        halves = len(group) > 1 and all(self._users[ref][0].node.operation is GLU for ref in group)
        joint = Map(list(group), halves=halves)
        for ref in group:
            dynamic, known = self._frontier(ref)
            joint.slots += [self._unit_of[r] for r in dynamic]
            joint.known += [r for r in known if r not in joint.known]
        joint.slots = _distinct(joint.slots)
        self._add(Linear(joint), group)

    def _add(self, unit: Unit, refs: Sequence[Ref]) -> None:
        self._units.append(unit)
        self._parts[unit] = list(refs)
        self._unit_of.update(dict.fromkeys(refs, unit))


def _of_parts(op: Op) -> bool:
    """Whether a function of tensors side by side is its values side by side: so is `glu`, of joint halves."""
    return op.elementwise or (op.kind is Kind.POINTWISE and op.node.operation is GLU)


def _function(op: Op) -> object:
    return op.node.operation.name, tuple(sorted(op.node.args.items(), key=str))


def _of_codes(op: Op) -> bool:
    return op.kind is Kind.TAPS and op.inputs[0][0].kind is Kind.CODES


def _distinct(units: Sequence[Unit]) -> list[Unit]:
    return list({id(u): u for u in units}.values())
