"""The plan of one position: linear maps folded and joined, everything else in an order in which it can be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hvdsl.compiler.catalogue.activations import GLU
from hvdsl.compiler.catalogue.joins import ADD
from hvdsl.compiler.catalogue.table import Offset
from hvdsl.compiler.emit.stepwise.graph import Op, OpKind, Ref, StepwiseGraph
from hvdsl.compiler.graph import Graph


@dataclass(slots=True, eq=False)
class LinearMap:
    """A linear map, up to a constant, of the tensors `slots` to `roots` side by side; `known` is static and enters it.

    `halves` says that the first halves of all roots come first, as a joint `glu` takes them.
    """

    roots: list[Ref]
    slots: list[Stage] = field(default_factory=list)
    known: list[Ref] = field(default_factory=list)
    halves: bool = False


@dataclass(slots=True, eq=False)
class CodesStage:
    """The first layers: all that convolutions of the codes give, through one map."""

    map: LinearMap
    convolutions: list[Op]


@dataclass(slots=True, eq=False)
class TapsStage:
    """A causal convolution of `source`, through a map that may be the identity."""

    map: LinearMap
    convolution: Op
    source: Stage


@dataclass(slots=True, eq=False)
class LinearStage:
    map: LinearMap


@dataclass(slots=True, eq=False)
class SumStage:
    terms: list[Stage]


@dataclass(slots=True, eq=False)
class PointwiseStage:
    """One function, of one tensor or of several; `ops` are those that it computes side by side."""

    ops: list[Op]
    sources: list[Stage]


@dataclass(slots=True, eq=False)
class KnownStage:
    """What is known before the first code is drawn, where a function or attention takes it position by position."""

    ref: Ref


@dataclass(slots=True, eq=False)
class AttentionStage:
    op: Op
    sources: list[Stage]  # one that holds query, key and value side by side, or these three


Stage: TypeAlias = CodesStage | TapsStage | LinearStage | SumStage | PointwiseStage | KnownStage | AttentionStage


@dataclass(slots=True)
class StepwisePlan:
    """`stages` in order of computation, the last gives the logits; `parts`: the tensors side by side in each."""

    stages: list[Stage]
    parts: dict[Stage, list[Ref]]


def plan(graph: Graph) -> StepwisePlan:
    """Derive the position-by-position form of a causal prior.

    Raises:
        SpecError: HV0801, for what has no such form; `check` has then raised it before.
    """
    return _Planner(StepwiseGraph(graph)).result()


class _Planner:
    def __init__(self, graph: StepwiseGraph) -> None:
        self._graph = graph
        self._users: dict[Ref, list[Op]] = {}
        for op in graph.ops:
            for ref in op.inputs:
                self._users.setdefault(ref, []).append(op)
        self._stages: list[Stage] = []
        self._parts: dict[Stage, list[Ref]] = {}
        self._stage_of: dict[Ref, Stage] = {}
        self._kept = self._materialised()
        self._depths: dict[Ref, int] = {}

    def result(self) -> StepwisePlan:
        for group in self._groups():
            self._place(group)
        return StepwisePlan(self._stages, self._parts)

    # -- what exists as a tensor

    def _materialised(self) -> set[Ref]:
        """Tensors that something other than a linear map takes, sums of such tensors, and the result."""
        kept: set[Ref] = {self._graph.result}
        for op in self._graph.ops:
            if op.kind in (OpKind.TAPS, OpKind.POINTWISE, OpKind.ATTENTION):
                kept.add((op, 0))
            if op.kind is OpKind.LINEAR:
                for port in range(len(op.channels)):
                    if any(user.kind is not OpKind.LINEAR for user in self._users.get((op, port), ())):
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
            if op.kind is OpKind.STATIC and not op.linear:
                known[ref] = None
            elif op.kind is not OpKind.STATIC and ref in self._kept and ref != root:
                dynamic[ref] = None
            else:
                for inner in op.inputs:
                    walk(inner)

        walk(root)
        return list(dynamic), list(known)

    # -- what is computed together

    def _groups(self) -> list[list[Ref]]:
        """Materialised tensors by depth; those that are computed side by side are together."""
        order = [(op, port) for op in self._graph.ops for port in range(len(op.channels)) if (op, port) in self._kept]
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
            before = self._frontier(ref)[0] if op.kind is OpKind.LINEAR else [r for r in op.inputs if r in self._kept]
            self._depths[ref] = 1 + max((self._depth(r) for r in before), default=0)
        return self._depths[ref]

    def _together(self, ref: Ref) -> object:
        """Linear maps join where one function, or one attention, takes them all; functions of joined maps join too."""
        op = ref[0]
        if op.kind is OpKind.LINEAR and not self._is_sum(ref) and not self._folds_into_taps(ref):
            users = [u for u in self._users.get(ref, ()) if u.kind is not OpKind.STATIC]
            if len(users) == 1 and users[0].kind is OpKind.ATTENTION:
                return users[0]
            if len(users) == 1 and _of_parts(users[0]):
                return _function(users[0])
        if _of_parts(op):
            source = op.inputs[0]
            if source[0].kind is OpKind.LINEAR and self._together(source) == _function(op):
                return "function", _function(op)
        return ref

    def _is_sum(self, ref: Ref) -> bool:
        return (
            ref[0].node.operation is ADD
            and ref[0].kind is OpKind.LINEAR
            and all(r in self._kept and not _of_codes(r[0]) for r in ref[0].inputs)
        )

    def _folds_into_taps(self, ref: Ref) -> bool:
        """Whether a linear tensor is a map of one convolution alone, or of convolutions of the codes."""
        dynamic, _ = self._frontier(ref)
        if not dynamic or any(r[0].kind is not OpKind.TAPS for r in dynamic):
            return False
        alone = all(len(self._roots_from(r)) == 1 for r in dynamic)
        return alone and (len(dynamic) == 1 or all(_of_codes(r[0]) for r in dynamic))

    def _roots_from(self, ref: Ref) -> set[Ref]:
        """The materialised tensors that `ref` flows into, through linear steps or at once."""
        roots: set[Ref] = set()
        for user in self._users.get(ref, ()):
            for port in range(len(user.channels)):
                if (user, port) in self._kept:
                    roots.add((user, port))
                elif user.kind is OpKind.LINEAR:
                    roots |= self._roots_from((user, port))
        return roots

    # -- stages

    def _place(self, group: list[Ref]) -> None:
        first = group[0]
        op = first[0]
        if op.kind is OpKind.TAPS:
            follower = self._follower(first)
            if follower is None:
                self._add(self._taps([first], LinearMap([first])), group)
        elif op.kind is OpKind.POINTWISE:
            self._pointwise(group)
        elif op.kind is OpKind.ATTENTION:
            self._add(AttentionStage(op, self._sources(op.inputs)), group)
        elif self._is_sum(first):
            self._add(SumStage([self._stage_of[r] for r in op.inputs]), group)
        elif self._folds_into_taps(first):
            dynamic, known = self._frontier(first)
            self._add(self._taps(dynamic, LinearMap([first], known=known)), group)
        else:
            self._linear(group)

    def _follower(self, ref: Ref) -> Ref | None:
        """The linear tensor that a convolution is folded into."""
        roots = self._roots_from(ref)
        for root in roots:
            if root[0].kind is OpKind.LINEAR and not self._is_sum(root) and self._folds_into_taps(root):
                return root
        return None

    def _taps(self, convolutions: list[Ref], map: LinearMap) -> CodesStage | TapsStage:
        ops = [ref[0] for ref in convolutions]
        if _of_codes(ops[0]):
            return CodesStage(map, ops)
        return TapsStage(map, ops[0], self._stage_of[ops[0].inputs[0]])

    def _pointwise(self, group: list[Ref]) -> None:
        """Joined functions take the whole of what their map computed, in its order."""
        sources = self._sources([r for ref in group for r in ref[0].inputs])
        if len(group) > 1:
            whole = self._parts[sources[0]]
            group = sorted(group, key=lambda ref: whole.index(ref[0].inputs[0]))
        self._add(PointwiseStage([ref[0] for ref in group], sources), group)

    def _sources(self, refs: Sequence[Ref]) -> list[Stage]:
        for ref in refs:
            if ref[0].kind is OpKind.STATIC and ref not in self._stage_of:
                self._add(KnownStage(ref), [ref])
        return _distinct([self._stage_of[ref] for ref in refs])

    def _linear(self, group: list[Ref]) -> None:
        users = self._users.get(group[0], [])
        if users and users[0].kind is OpKind.ATTENTION and len(users) == 1:
            order = list(users[0].inputs)
            group = sorted(group, key=order.index)
        halves = len(group) > 1 and all(self._users[ref][0].node.operation is GLU for ref in group)
        joint = LinearMap(list(group), halves=halves)
        for ref in group:
            dynamic, known = self._frontier(ref)
            joint.slots += [self._stage_of[r] for r in dynamic]
            joint.known += [r for r in known if r not in joint.known]
        joint.slots = _distinct(joint.slots)
        self._add(LinearStage(joint), group)

    def _add(self, stage: Stage, refs: Sequence[Ref]) -> None:
        self._stages.append(stage)
        self._parts[stage] = list(refs)
        self._stage_of.update(dict.fromkeys(refs, stage))


def _of_parts(op: Op) -> bool:
    """Whether a function of tensors side by side is its values side by side: so is `glu`, of joint halves."""
    return op.elementwise or (op.kind is OpKind.POINTWISE and op.node.operation is GLU)


def _function(op: Op) -> object:
    return op.node.operation.name, tuple(sorted(op.node.args.items(), key=str))


def _of_codes(op: Op) -> bool:
    return op.kind is OpKind.TAPS and op.inputs[0][0].kind is OpKind.CODES


def _distinct(stages: Sequence[Stage]) -> list[Stage]:
    return list({id(u): u for u in stages}.values())


Users: TypeAlias = Mapping[Stage, Sequence[Stage]]


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`glu` of what `source` gives, added to `plus`; it takes the place of the stages `inside`."""

    source: TapsStage | LinearStage
    plus: Stage | None
    inside: tuple[Stage, ...]


def users(plan: StepwisePlan) -> Users:
    """The stages that read each stage, in order of computation."""
    readers: dict[Stage, list[Stage]] = {stage: [] for stage in plan.stages}
    for stage in plan.stages:
        for source in dict.fromkeys(_sources(stage)):
            readers[source].append(stage)
    return readers


def gates(plan: StepwisePlan, users: Users) -> dict[Stage, Gate]:
    """The gates of a plan, by the stage that each takes the place of last."""
    gated: dict[Stage, Gate] = {}
    for stage in plan.stages:
        if not isinstance(stage, PointwiseStage) or stage.ops[0].node.operation is not GLU or not owned(stage, users):
            continue
        source = stage.sources[0]
        if not isinstance(source, TapsStage | LinearStage) or len(stage.ops) != len(plan.parts[source]):
            continue
        follower = users[stage][0] if len(users[stage]) == 1 else None
        others = [term for term in follower.terms if term is not stage] if isinstance(follower, SumStage) else []
        if follower is not None and follower not in gated and len(others) == len(stage.ops) == 1:
            gated[follower] = Gate(source, others[0], (source, stage))
        else:
            gated[stage] = Gate(source, None, (source,))
    return gated


def owned(stage: PointwiseStage, users: Users) -> bool:
    """Whether a function is the only reader of what one part computes into a buffer of its own."""
    return (
        len(stage.sources) == 1
        and isinstance(stage.sources[0], TapsStage | LinearStage)
        and users[stage.sources[0]] == [stage]
    )


def _sources(stage: Stage) -> list[Stage]:
    match stage:
        case CodesStage() | KnownStage():
            return []
        case TapsStage():
            return [stage.source]
        case LinearStage():
            return stage.map.slots
        case SumStage():
            return stage.terms
        case PointwiseStage() | AttentionStage():
            return stage.sources


def skew(plan: StepwisePlan, graph: Graph) -> int | None:
    """By how many columns each row falls behind the one above so that all go on at once; None with attention.

    Positions (i, j) of equal j + skew · i are independent where every tap (row, column) above has column < -row · skew.
    """
    if any(isinstance(stage, AttentionStage) for stage in plan.stages):
        return None
    reach = [0]
    for stage in plan.stages:
        ops = (
            stage.convolutions
            if isinstance(stage, CodesStage)
            else [stage.convolution]
            if isinstance(stage, TapsStage)
            else []
        )
        reach += [-(-column // -row) for op in ops for row, column in _offsets(op, graph) if row < 0]
    return max(reach) + 1


def _offsets(op: Op, graph: Graph) -> list[Offset]:
    [*_, reads] = op.node.operation.positions([graph.shape(edge) for edge in op.node.inputs], op.node.args)
    offsets = reads.offsets
    return [(row - op.shift[0], column - op.shift[1]) for row, column in offsets or ()]
