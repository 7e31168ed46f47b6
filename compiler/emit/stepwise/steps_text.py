"""The position-by-position form of a prior as a class: parts made once, `__call__` the work of one position."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from hvdsl.compiler.catalogue.reshaping import SHIFT
from hvdsl.compiler.emit import syntax
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.class_text import docstring
from hvdsl.compiler.emit.modules.instance import given_name
from hvdsl.compiler.emit.stepwise.depths import Parted, parted
from hvdsl.compiler.emit.stepwise.graph import Op, Ref
from hvdsl.compiler.emit.stepwise.plan import (
    AttentionStage,
    CodesStage,
    Gate,
    KnownStage,
    LinearMap,
    LinearStage,
    PointwiseStage,
    Stage,
    StepwisePlan,
    SumStage,
    TapsStage,
    gates,
    owned,
    plan,
    skew,
    users,
)
from hvdsl.compiler.emit.stepwise.statements import MapWriter, Result, Statement, module, named, unused
from hvdsl.compiler.emit.syntax import Template, fill, slot
from hvdsl.compiler.graph import Graph, Node

BODY = 2  # levels of indentation of a method's statements


def position_steps(graph: Graph, prior: str) -> list[str]:
    """Write the position-by-position form of the class `prior`.

    Raises:
        SpecError: HV0801, where it has none; `check` has then raised it before.
    """
    parts = parted(graph)
    return _Writer(parts.shared, plan(parts.shared), prior, parts).lines()


class _Writer:
    def __init__(self, graph: Graph, plan: StepwisePlan, prior: str, parts: Parted) -> None:
        self._graph, self._plan, self._prior, self._parted = graph, plan, prior, parts
        self._stage_of = {ref: stage for stage, refs in plan.parts.items() for ref in refs}
        self._number = {stage: number for number, stage in enumerate(plan.stages)}
        self._conditions = [allowed(given_name(node)) for node in graph.entries()[1:]]
        self._maps = MapWriter(graph, {"prior", "buffers", "heads", *self._conditions})
        self._users = users(plan)
        self._gates = gates(plan, self._users)
        self._inside = {inner for gate in self._gates.values() for inner in gate.inside}
        self._gated = {gate.source for gate in self._gates.values()}
        self._chained = self._chains()
        self._inside |= {stage for before, function in self._chained.values() for stage in (before, function)}

    def lines(self) -> list[str]:
        summary = f"`{self._prior}` position by position: the same logits, each part computed once."
        parameters = "".join(f", {name}: Tensor" for name in self._conditions)
        lines = [
            f"class {self._prior}Steps:",
            docstring(summary, syntax.INDENT),
            "",
            f"    WAVEFRONT_SKEW = {None if self._parted.heads else skew(self._plan, self._graph)}",
            "",
            f"    def __init__(self, prior: nn.Module, buffers: StepBuffers{parameters}) -> None:",
        ]
        statics = self._maps.statics(self._constants())
        self._part_names = self._named_parts()
        statements = [*statics, *(s for stage in self._part_names for s in self._part(stage))]
        if self._parted.heads:
            statements += self._maps.heads(self._parted)
        lines += [line for statement in statements for line in statement.lines(BODY)]
        if lines[-1].endswith("-> None:"):
            lines.append("        pass")
        lines += ["", "    def __call__(self, j: int) -> Tensor:"]
        what = "what the heads of all depths read, `(N, C)`, at" if self._parted.heads else "the logits `(N, K)` of"
        lines.append(docstring(f"Return {what} step j.", syntax.INDENT * 2))
        steps = named(self._step(), {}, ("x", "h"))
        return lines + [line for statement in steps for line in statement.lines(BODY)]

    def _chains(self) -> dict[Stage, tuple[TapsStage, PointwiseStage]]:
        """Convolutions of nothing but a function of another convolution, each with that one and the function."""
        chains: dict[Stage, tuple[TapsStage, PointwiseStage]] = {}
        for stage in self._plan.stages:
            function = stage.source if isinstance(stage, TapsStage) else None
            if not isinstance(function, PointwiseStage) or self._users[function] != [stage] or _plain(function) is None:
                continue
            [before, *others] = function.sources
            if isinstance(before, TapsStage) and not others and self._users[before] == [function]:
                chains[stage] = before, function
        return chains

    # -- what is made once

    def _constants(self) -> list[Ref]:
        """What is known before the first code is drawn, and read by some part."""
        constants: dict[Ref, None] = {}
        for stage in self._plan.stages:
            if isinstance(stage, CodesStage | TapsStage | LinearStage):
                constants.update(dict.fromkeys(stage.map.known))
            elif isinstance(stage, KnownStage):
                constants[stage.ref] = None
        return list(constants)

    def _named_parts(self) -> dict[Stage, str]:
        """Name the parts after the recipes that their layers are in."""
        names: dict[Stage, str] = {}
        taken = self._maps.taken
        for stage in self._plan.stages:
            wanted = self._part_name(stage)
            if wanted is not None:
                names[stage] = unused(allowed(wanted), taken)
                taken.add(names[stage])
        return names

    def _part_name(self, stage: Stage) -> str | None:
        if isinstance(stage, CodesStage):
            return "first"
        if isinstance(stage, TapsStage):
            return _recipe(stage.convolution.node, "convolution")
        if isinstance(stage, AttentionStage):
            return _recipe(stage.op.node, "attention")
        if isinstance(stage, KnownStage):
            return _spec_name(stage.ref) or _recipe(stage.ref[0].node, "known")
        if isinstance(stage, LinearStage):
            last = "shared" if self._parted.heads else "logits"
            return last if stage is self._plan.stages[-1] else _recipe(stage.map.roots[0][0].node, "linear")
        stateful = isinstance(stage, PointwiseStage) and stage.ops[0].node.operation.layer is not None
        return _recipe(stage.ops[0].node, "layer") if stateful and isinstance(stage, PointwiseStage) else None

    def _part(self, stage: Stage) -> list[Statement]:
        name = self._part_names[stage]
        own = ast.Attribute(syntax.name("self"), name, ast.Load())
        if isinstance(stage, PointwiseStage):
            return [Statement((ast.unparse(own),), module(stage.ops[0].node, self._graph))]
        if isinstance(stage, AttentionStage):
            query, _, value = stage.op.inputs
            sizes = [syntax.constant_node(ref[0].channels[ref[1]]) for ref in (query, value)]
            buffers = _buffers("attention", module(stage.op.node, self._graph), *sizes)
            return [Statement((ast.unparse(own),), buffers)]
        if isinstance(stage, KnownStage):
            return [Statement((ast.unparse(own),), _buffers("known", self._maps.static(stage.ref)))]
        if isinstance(stage, CodesStage):
            kernels = ast.Tuple([self._kernel(op) for op in stage.convolutions], ast.Load())
            return self._with_map(name, stage.map, "codes", kernels, stage.convolutions)
        if isinstance(stage, TapsStage):
            options: dict[str, ast.expr] = {}
            if stage in self._chained:
                before, between = self._chained[stage]
                of = [syntax.name(_plain(between) or ""), syntax.dotted("self", self._part_names[before])]
                options["of"] = ast.Tuple(of, ast.Load())
            if stage in self._gated:
                options["gate"] = syntax.constant_node(True)
            convolution = stage.convolution
            return self._with_map(name, stage.map, "convolution", self._kernel(convolution), [convolution], options)
        if isinstance(stage, LinearStage):
            operands = [self._plan.parts[s] for s in stage.map.slots]
            sizes = [syntax.constant_node(sum(_channels(r) for r in refs)) for refs in operands]
            function = self._maps.function(name, stage.map, operands)
            buffers = _buffers("linear", syntax.name(name), ast.Tuple(sizes, ast.Load()), *self._read(stage.map))
            return [function, Statement((ast.unparse(own),), buffers)]
        raise AssertionError(f"{type(stage).__name__} is no part")

    def _with_map(
        self,
        name: str,
        map: LinearMap,
        method: str,
        kernels: ast.expr,
        convolutions: Sequence[Op],
        options: Mapping[str, ast.expr] | None = None,
    ) -> list[Statement]:
        """Convolutions, and what follows them, where anything does."""
        if map.roots == [(convolutions[0], 0)]:
            return [Statement((f"self.{name}",), _buffers(method, kernels, **(options or {})))]
        function = self._maps.function(name, map, [[(op, 0)] for op in convolutions])
        buffers = _buffers(method, kernels, syntax.name(name), *self._read(map), **(options or {}))
        return [function, Statement((f"self.{name}",), buffers)]

    def _read(self, map: LinearMap) -> list[ast.expr]:
        """The constants that a map reads, as a tuple, where there are any."""
        names: list[ast.expr] = [self._maps.static(ref) for ref in map.known]
        return [ast.Tuple(names, ast.Load())] if names else []

    def _kernel(self, op: Op) -> ast.expr:
        if op.node.operation is SHIFT:
            down, right = (int(str(op.node.args[side])) for side in ("down", "right"))
            moves = [syntax.constant_node(n) for n in (down, right)]
            return syntax.call("moved", syntax.constant_node(op.channels[0]), _of_buffers("blank"), *moves)
        moves = [syntax.constant_node(n) for n in op.shift] if op.shift != (0, 0) else []
        return syntax.call("convolution", module(op.node, self._graph), _of_buffers("grid"), *moves)

    # -- what every position needs

    def _step(self) -> list[Statement]:
        statements: list[Statement] = []
        for stage in self._plan.stages:
            if isinstance(stage, AttentionStage) and len(stage.sources) > 1:
                pieces = ast.Tuple([self._piece(r) for r in stage.op.inputs], ast.Load())
                out = _at(self._buffer(stage, "input"))
                joined = syntax.call(syntax.dotted("torch", "cat"), pieces, syntax.constant_node(1), out=out)
                statements.append(Statement((), joined))
            if stage not in self._inside:
                statements += self._stage(stage)
        *before, last = statements
        return [*before, Result(last.targets, last.value)]

    def _stage(self, stage: Stage) -> list[Statement]:
        variable, targets = self._tensor(stage), self._targets(stage)
        if stage in self._gates:
            value, writes = self._gate(self._gates[stage]), True
        elif isinstance(stage, PointwiseStage):
            value, writes = self._function(stage)
            if writes and not targets and stage.ops[0].elementwise and owned(stage, self._users):
                targets = [self._tensor(stage.sources[0])]  # in place
        elif isinstance(stage, SumStage):
            [(add, _)] = self._plan.parts[stage]
            left, right = (self._piece(ref) for ref in add.inputs)
            value, writes = (
                (syntax.call(syntax.dotted("torch", "add"), left, right), True)
                if targets
                else (ast.BinOp(left, ast.Add(), right), False)
            )
        else:
            value, writes = self._call(stage), isinstance(stage, LinearStage)
        if targets and writes and isinstance(value, ast.Call):
            value.keywords.append(ast.keyword("out", targets.pop(0)))
        name = next(iter(self._plan.parts[stage]), None)
        wanted = _spec_name(name) if len(self._plan.parts[stage]) == 1 and name is not None else None
        statements = [Statement((variable.id,), value, wanted)]
        statements += [Statement((), _copied(target, variable)) for target in targets]
        readers = [user for user in self._users[stage] if isinstance(user, TapsStage)] if self._joined(stage) else []
        for user in readers:
            piece = self._piece(user.convolution.inputs[0])
            statements.append(Statement((), _copied(_at(self._buffer(user, "input")), piece)))
        return statements

    def _joined(self, stage: Stage) -> bool:
        return len(self._plan.parts[stage]) > 1

    def _targets(self, stage: Stage) -> list[ast.expr]:
        """The buffers that want this tensor, whole."""
        buffers: list[ast.expr] = []
        for user in self._plan.stages:
            if isinstance(user, TapsStage) and user.source is stage and not self._joined(stage):
                buffers.append(_at(self._buffer(user, "input")))
            if isinstance(user, AttentionStage) and user.sources == [stage]:
                buffers.append(_at(self._buffer(user, "input")))
            if isinstance(user, LinearStage) and len(user.map.slots) > 1 and stage in user.map.slots:
                number = syntax.constant_node(user.map.slots.index(stage))
                buffers.append(_at(ast.Subscript(self._buffer(user, "operands"), number, ast.Load())))
        return buffers

    def _buffer(self, stage: Stage, name: str) -> ast.expr:
        return syntax.dotted("self", self._part_names[stage], name)

    def _call(self, stage: Stage, *method: str, **options: ast.expr) -> ast.Call:
        operands: list[ast.expr] = [syntax.name("j")]
        if isinstance(stage, LinearStage) and len(stage.map.slots) == 1:
            operands.append(self._tensor(stage.map.slots[0]))
        return syntax.call(syntax.dotted("self", self._part_names[stage], *method), *operands, **options)

    def _gate(self, gate: Gate) -> ast.expr:
        plus = {} if gate.plus is None else {"plus": self._tensor(gate.plus)}
        return self._call(gate.source, "gated", **plus)

    def _function(self, stage: PointwiseStage) -> tuple[ast.expr, bool]:
        """The call, and whether it can write into a buffer."""
        node, inputs = stage.ops[0].node, stage.ops[0].inputs
        entry = node.operation
        operands: list[ast.expr] = (
            [self._tensor(stage.sources[0])] if len(stage.ops) > 1 else [self._piece(r) for r in inputs]
        )
        if entry.expression is None:
            return syntax.call("at_position", syntax.dotted("self", self._part_names[stage]), *operands), False
        slots = [slot(i) for i in range(len(operands))]
        into = entry.writes_into(slots, node.args) if entry.writes_into else None
        if into is not None:
            return fill(Template(into), operands, ()), True
        shapes = [self._graph.shape(edge) for edge in node.inputs]
        return fill(Template(entry.expression(slots, shapes, node.args)), operands, ()), False

    def _tensor(self, stage: Stage) -> ast.Name:
        """The variable of a stage, until it is named."""
        return ast.Name(f"_stage_{self._number[stage]}_", ast.Load())

    def _piece(self, ref: Ref) -> ast.expr:
        """One of the tensors that a stage computes side by side."""
        stage = self._stage_of[ref]
        parts = self._plan.parts[stage]
        if len(parts) == 1:
            return self._tensor(stage)
        start = sum(_channels(r) for r in parts[: parts.index(ref)])
        sizes = [syntax.constant_node(n) for n in (1, start, _channels(ref))]
        return syntax.call(ast.Attribute(self._tensor(stage), "narrow", ast.Load()), *sizes)


def _recipe(node: Node, fallback: str) -> str:
    """The innermost recipe or binding with a telling name that a node is in."""
    steps = [s for s in (node.path or node.scope.path).split(".")[1:] if not s.isdigit()]
    if node.path:
        steps = steps[:-1]
    return next((s for s in reversed(steps) if len(s) > 1), fallback)


def _spec_name(ref: Ref) -> str | None:
    op, port = ref
    return op.node.names[port] if port < len(op.node.names) else None


def _channels(ref: Ref) -> int:
    return ref[0].channels[ref[1]]


def _at(buffer: ast.expr) -> ast.expr:
    return ast.Subscript(buffer, syntax.name("j"), ast.Load())


def _copied(target: ast.expr, value: ast.expr) -> ast.expr:
    return syntax.call(ast.Attribute(target, "copy_", ast.Load()), value)


def _of_buffers(name: str) -> ast.expr:
    return syntax.dotted("buffers", name)


def _buffers(method: str, *args: ast.expr, **options: ast.expr) -> ast.Call:
    return syntax.call(_of_buffers(method), *args, **options)


def _plain(stage: PointwiseStage) -> str | None:
    """The name of a function of one tensor that can write into a buffer and takes nothing else."""
    node = stage.ops[0].node
    into = node.operation.writes_into(["x"], node.args) if node.operation.writes_into else None
    name = into.removesuffix("(x)") if into is not None else None
    return name if len(stage.ops) == 1 and stage.ops[0].elementwise and name and name.isidentifier() else None
