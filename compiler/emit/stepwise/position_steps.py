"""The position-by-position form of a prior as a class: parts made once, `__call__` the work of one position."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence

from hvdsl.compiler.catalogue.reshaping import SHIFT
from hvdsl.compiler.emit import layout
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.class_text import docstring
from hvdsl.compiler.emit.modules.instance import given_name
from hvdsl.compiler.emit.stepwise.graph import Kind, Op, Ref
from hvdsl.compiler.emit.stepwise.map_text import MapText, module
from hvdsl.compiler.emit.stepwise.plan import (
    Attention,
    Codes,
    Gate,
    Linear,
    Map,
    Plan,
    Pointwise,
    Stage,
    Sum,
    Taps,
    gates,
    owned,
    skew,
    users,
)
from hvdsl.compiler.graph import Graph

NAMES = {Codes: "codes", Taps: "convolution", Linear: "linear", Attention: "attention"}


def position_steps(graph: Graph, plan: Plan, prior: str) -> list[str]:
    """Write the position-by-position form of the class `prior`."""
    return _Writer(graph, plan, prior, f"{prior}Steps").lines()


class _Writer:
    def __init__(self, graph: Graph, plan: Plan, prior: str, name: str) -> None:
        self._graph, self._plan, self._prior, self._name = graph, plan, prior, name
        self._part_names: dict[Stage, str] = {}
        counts: Counter[str] = Counter()
        for stage in plan.stages:
            stateful = isinstance(stage, Pointwise) and stage.ops[0].node.operation.layer is not None
            kind = "layer" if stateful else NAMES.get(type(stage))
            if kind is not None:
                self._part_names[stage] = f"{kind}_{counts[kind]}"
                counts[kind] += 1
        self._stage_of = {ref: stage for stage, refs in plan.parts.items() for ref in refs}
        self._variables: dict[Stage, str] = {}
        self._given = graph.entries()[1:]
        self._maps = MapText(graph)
        self._users = users(plan)
        self._gates = gates(plan, self._users)
        self._inside = {inner for gate in self._gates.values() for inner in gate.inside}

    def lines(self) -> list[str]:
        arguments = "".join(f", {allowed(given_name(n))}: Tensor" for n in self._given)
        lines = [
            f"class {self._name}:",
            docstring(
                f"`{self._prior}` position by position: the same logits, each part computed once.", layout.INDENT
            ),
            "",
            f"    WAVEFRONT_SKEW = {skew(self._plan, self._graph)}",
            "",
            f"    def __init__(self, prior: nn.Module, buffers: StepBuffers{arguments}) -> None:",
        ]
        lines += _laid_out(self._constructor())
        lines += ["", "    def __call__(self, j: int) -> Tensor:"]
        lines.append(docstring("Return the logits `(N, K)` of step j.", layout.INDENT * 2))
        return lines + _laid_out(self._step())

    # -- what is made once

    def _constructor(self) -> list[str]:
        lines = self._maps.static_lines(self._known())
        for stage, name in self._part_names.items():
            lines += self._part(stage, name)
        return lines

    def _known(self) -> list[Ref]:
        found: dict[Ref, None] = {}
        for stage in self._plan.stages:
            if isinstance(stage, Codes | Taps | Linear):
                found.update(dict.fromkeys(stage.map.known))
            elif isinstance(stage, Pointwise):
                found.update((r, None) for op in stage.ops for r in op.inputs if r[0].kind is Kind.STATIC)
        return list(found)

    def _part(self, stage: Stage, name: str) -> list[str]:
        if isinstance(stage, Attention):
            query, _, value = stage.op.inputs
            sizes = f"{query[0].channels[query[1]]}, {value[0].channels[value[1]]}"
            return [f"self.{name} = buffers.attention({module(stage.op.node, self._graph)}, {sizes})"]
        if isinstance(stage, Codes):
            kernels = ", ".join(map(self._kernel, stage.convolutions))
            return self._with_map(stage.map, f"self.{name} = buffers.codes(({kernels},)", name, stage.convolutions)
        if isinstance(stage, Taps):
            head = f"self.{name} = buffers.convolution({self._kernel(stage.convolution)}"
            return self._with_map(stage.map, head, name, [stage.convolution])
        if isinstance(stage, Linear):
            slots = [self._plan.parts[s] for s in stage.map.slots]
            sizes = ", ".join(str(sum(_channels(r) for r in refs)) for refs in slots)
            text = self._maps.function(name, stage.map, slots)
            return [*text, f"self.{name} = buffers.linear({name}, ({sizes},){self._statics(stage.map)})"]
        if isinstance(stage, Pointwise):
            return [f"self.{name} = {module(stage.ops[0].node, self._graph)}"]
        raise AssertionError(f"{type(stage).__name__} is no part")

    def _with_map(self, map: Map, head: str, name: str, convolutions: Sequence[Op]) -> list[str]:
        """What follows the convolutions, where anything does."""
        if map.roots == [(convolutions[0], 0)]:
            return [f"{head})"]
        text = self._maps.function(name, map, [[(op, 0)] for op in convolutions])
        return [*text, f"{head}, {name}{self._statics(map)})"]

    def _statics(self, map: Map) -> str:
        names = [self._maps.name(ref) for ref in map.known]
        return f", ({', '.join(names)},)" if names else ""

    def _kernel(self, op: Op) -> str:
        down, right = op.shift
        if op.node.operation is SHIFT:
            down, right = (int(str(op.node.args[side])) for side in ("down", "right"))
            return f"moved({op.channels[0]}, buffers.blank, {down}, {right})"
        moves = f", {down}, {right}" if op.shift != (0, 0) else ""
        return f"convolution({module(op.node, self._graph)}, buffers.grid{moves})"

    # -- what every position needs

    def _step(self) -> list[str]:
        lines: list[str] = []
        for number, stage in enumerate(self._plan.stages):
            if isinstance(stage, Attention) and len(stage.sources) > 1:
                pieces = ", ".join(self._piece(r) for r in stage.op.inputs)
                lines.append(f"torch.cat(({pieces}), 1, out=self.{self._part_names[stage]}.input[j])")
            if stage not in self._inside:
                self._variables[stage] = f"h_{number}"
                lines += self._stage(stage, f"h_{number}")
        return [*lines[:-1], f"return {lines[-1].partition(' = ')[2]}"]

    def _stage(self, stage: Stage, variable: str) -> list[str]:
        targets = self._targets(stage)
        if stage in self._gates:
            text, writes = self._gate(self._gates[stage]), True
        elif isinstance(stage, Pointwise):
            text, writes = self._function(stage)
            if writes and not targets and stage.ops[0].elementwise and owned(stage, self._users):
                targets = [self._tensor(stage.sources[0])]  # in place
        elif isinstance(stage, Sum):
            [(add, _)] = self._plan.parts[stage]
            terms = [self._piece(ref) for ref in add.inputs]
            text, writes = (f"torch.add({terms[0]}, {terms[1]})", True) if targets else (" + ".join(terms), False)
        else:
            text, writes = self._call(stage), isinstance(stage, Linear)
        if targets and writes:
            text = f"{text[:-1]}, out={targets.pop(0)})"
        lines = [f"{variable} = {text}", *(f"{target}.copy_({variable})" for target in targets)]
        readers = [user for user in self._users[stage] if isinstance(user, Taps)] if self._joined(stage) else []
        pieces = [(self._part_names[user], self._piece(user.convolution.inputs[0])) for user in readers]
        return [*lines, *(f"self.{name}.input[j].copy_({piece})" for name, piece in pieces)]

    def _joined(self, stage: Stage) -> bool:
        return len(self._plan.parts[stage]) > 1

    def _targets(self, stage: Stage) -> list[str]:
        """The buffers that want this tensor, whole."""
        found = []
        for user in self._plan.stages:
            if isinstance(user, Taps) and user.source is stage and not self._joined(stage):
                found.append(f"self.{self._part_names[user]}.input[j]")
            if isinstance(user, Attention) and user.sources == [stage]:
                found.append(f"self.{self._part_names[user]}.input[j]")
            if isinstance(user, Linear) and len(user.map.slots) > 1 and stage in user.map.slots:
                found.append(f"self.{self._part_names[user]}.operands[{user.map.slots.index(stage)}][j]")
        return found

    def _call(self, stage: Stage, method: str = "", options: str = "") -> str:
        given = ["j"]
        if isinstance(stage, Linear) and len(stage.map.slots) == 1:
            given.append(self._tensor(stage.map.slots[0]))
        return f"self.{self._part_names[stage]}{method}({', '.join(given)}{options})"

    def _gate(self, gate: Gate) -> str:
        plus = "" if gate.plus is None else f", plus={self._tensor(gate.plus)}"
        return self._call(gate.source, ".gated", plus)

    def _function(self, stage: Pointwise) -> tuple[str, bool]:
        """The call, and whether it can write into a buffer."""
        node = stage.ops[0].node
        entry = node.operation
        inputs = stage.ops[0].inputs
        operands = [self._tensor(stage.sources[0])] if len(stage.ops) > 1 else [self._piece(r) for r in inputs]
        if entry.expression is None:
            return f"at_position({', '.join([f'self.{self._part_names[stage]}', *operands])})", False
        into = entry.writes_into(operands, node.args) if entry.writes_into else None
        if into is not None:
            return into, True
        shapes = [self._graph.shape(edge) for edge in node.inputs]
        return self._maps.simple(entry.expression(operands, shapes, node.args)), False

    def _tensor(self, stage: Stage) -> str:
        return self._variables[stage]

    def _piece(self, ref: Ref) -> str:
        """One of the tensors that a stage computes side by side."""
        stage = self._stage_of[ref]
        parts = self._plan.parts[stage]
        if len(parts) == 1:
            return self._variables[stage]
        start = sum(_channels(r) for r in parts[: parts.index(ref)])
        return f"{self._variables[stage]}.narrow(1, {start}, {_channels(ref)})"


def _laid_out(lines: list[str]) -> list[str]:
    """Indent statements as a method's body, and break those that are too long; no two empty lines together."""
    done: list[str] = []
    for line in lines:
        text = line.lstrip()
        depth = 2 + (len(line) - len(text)) // len(layout.INDENT)
        if not text:
            done += [""] if done and done[-1] else []
        elif text.startswith(("def ", "return ")):
            done.append(layout.INDENT * depth + text)
        else:
            head, _, value = text.rpartition(" = ") if " = " in text else ("", "", text)
            tree = ast.parse(value, mode="eval").body
            done += layout.lines(f"{head} = " if head else "", tree, depth=depth)
    return done[:-1] if done and not done[-1] else done


def _channels(ref: Ref) -> int:
    return ref[0].channels[ref[1]]
