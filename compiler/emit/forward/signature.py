"""What a class's `forward` takes and returns, and by which names."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from hvdsl.compiler.catalogue.table import OperationKind
from hvdsl.compiler.emit import syntax
from hvdsl.compiler.emit.forward.steps import ListItem, Ref, Step, StepKind, steps
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.instance import ModuleInstance, given_name, is_tap, tap_key
from hvdsl.compiler.emit.modules.tree import ModuleTree
from hvdsl.compiler.graph import Edge, Node, Role


class Signature:
    """Taken from one instance; it holds for all of its class.

    `arguments`: values that come in, with their names. `filled_lists`: lists of taps that the code makes.
    `conditions`: what a model is given besides the image, by keyword. `returned`: values that go out, before
    `returned_lists`.
    """

    def __init__(self, instance: ModuleInstance, tree: ModuleTree, outputs: Sequence[Edge]) -> None:
        self._instance, self._tree = instance, tree
        self._graph = tree.graph
        self.is_model = instance.scope.kind == "model"
        self.arguments: list[tuple[Ref, str]] = []
        self.conditions: list[tuple[Node, str]] = []
        self._parameters: list[str] = []
        self._arguments()
        self.filled_lists = list(dict.fromkeys(s.fills[0] for s in steps(instance.items) if s.kind is StepKind.APPEND))
        in_lists = tree.lists if instance.is_section else {}
        self.returned = (tree.result,) if self.is_model else tuple(v for v in outputs if v not in in_lists)
        self.returned_lists = [] if self.is_model else self._lists_of(outputs)

    def _arguments(self) -> None:
        instance = self._instance
        taken = set(instance.borrowed.values())
        if self.is_model:
            images = [Edge(n.index) for n in self._graph.nodes if n.role is Role.IMAGE]
            self.arguments = [(v, "x") for v in images]
            self._parameters = ["x: Tensor | None"] if images else []
            conditions = [n for n in self._graph.entries() if n.role is Role.GIVEN]
            self.conditions = [(node, allowed(given_name(node))) for node in conditions]
            self.arguments += [(Edge(node.index), name) for node, name in self.conditions]
        for value in instance.inputs:
            optional = " | None" if instance.generative and self._is_of_posterior(value) else ""
            listed = self._tree.lists.get(value) if instance.is_section else None
            if listed is not None:
                if listed.list not in taken:
                    self._parameters.append(f"{listed.list}: list[{self.kind(value)}{optional}]")
                    taken.add(listed.list)
                continue
            name = self._input_name(value, taken)
            taken.add(name)
            self.arguments.append((value, name))
            kind = self.kind(value)
            self._parameters.append(f"{name}: {kind}{optional}")
        self._parameters += [f"{name}: nn.Module" for name in instance.borrowed.values()]
        if instance.takes_latents:
            self._parameters.append("latents: Traversal")
        if self.conditions:
            self._parameters += ["*", *(f"{name}: Tensor" for _, name in self.conditions)]

    def _is_of_posterior(self, value: Edge) -> bool:
        """Whether there is no such value in generation; conditions are always there."""
        given = self._graph.nodes[value.node].role is Role.GIVEN
        return not given and value.node not in self._tree.uses.generative

    def _input_name(self, value: Edge, taken: set[str]) -> str:
        node = self._graph.nodes[value.node]
        source = node
        while len(source.inputs) == 1 and (source is node or source.operation.casts):
            source = self._graph.nodes[source.inputs[0].node]
        if is_tap(self._graph, value):
            name = self.name_of(value) or tap_key(node)[0]
        elif node.role is Role.GIVEN or (self._instance.is_section and node.role is Role.CODES):
            name = given_name(node)
        elif source.role is Role.TAP and not node.path:  # a pass moved an activation out
            name = tap_key(source)[0]
        elif "x" not in taken:
            name = "x"
        else:
            name = (node.names[value.port] if value.port < len(node.names) else None) or "h"
        free, number = allowed(name), 2
        while free in taken:
            free, number = f"{allowed(name)}_{number}", number + 1
        return free

    @property
    def text(self) -> list[str]:
        """The `def` line, broken where it is too long."""
        flat = f"{syntax.INDENT}def forward({', '.join(['self', *self._parameters])}) -> {self._result}:"
        if len(flat) <= syntax.WIDTH:
            return [flat]
        inner = ", ".join(["self", *self._parameters])
        lines = [f"{syntax.INDENT * 2}{inner}"]
        if len(lines[0]) > syntax.WIDTH:
            lines = [f"{syntax.INDENT * 2}{p}," for p in ["self", *self._parameters]]
        result = [f"{syntax.INDENT}) -> {self._result}:"]
        if len(result[0]) > syntax.WIDTH:
            kinds = [f"{syntax.INDENT * 2}{kind}," for kind in self._kinds]
            result = [f"{syntax.INDENT}) -> tuple[", *kinds, f"{syntax.INDENT}]:"]
        return [f"{syntax.INDENT}def forward(", *lines, *result]

    @property
    def _kinds(self) -> list[str]:
        """The types of what is returned."""
        kinds = [self.kind(v) for v in self.returned]
        return kinds + [f"list[{self.list_kind(name)}]" for name in self.returned_lists]

    @property
    def _result(self) -> str:
        kinds = self._kinds
        if not kinds:
            return "None"
        if len(kinds) == 1:
            return kinds[0]
        return f"tuple[{kinds[0]}, ...]" if len(set(kinds)) == 1 and len(kinds) > 3 else f"tuple[{', '.join(kinds)}]"

    def name_of(self, value: Edge) -> str | None:
        """What a tap is called: by its resolution where several rows are in view."""
        if not is_tap(self._graph, value):
            return None
        name, height, width = tap_key(self._graph.nodes[value.node])
        size = str(height) if height == width else f"{height}x{width}"
        return f"{name}_{size}" if self._instance.is_section and value not in self._tree.lists else name

    def list_kind(self, name: str) -> str:
        """The type of what is in a list of taps."""
        return next(self.kind(value) for value, item in self._tree.lists.items() if item.list == name)

    def _made(self, value: Edge) -> Edge:
        """What a tap passes on is of the kind that went in, save a posterior with a flow: that the tap itself makes."""
        while is_tap(self._graph, value) and not self._tree.is_flowed(value):
            value = self._graph.nodes[value.node].inputs[value.port]
        return value

    def is_distribution(self, value: Edge) -> bool:
        value = self._made(value)
        node = self._graph.nodes[value.node]
        if self._tree.is_flowed(value):
            return True
        return node.operation.kind is OperationKind.DISTRIBUTION

    def kind(self, value: Edge) -> str:
        """The type of a value, as an annotation."""
        if not self.is_distribution(value):
            return "Tensor"
        source = self._made(value)
        node = self._graph.nodes[source.node]
        if self._tree.is_flowed(source):
            return "Flowed"
        entry = node.operation.distribution
        return entry.runtime_class if entry and entry.runtime_class else self.kind(node.inputs[0])

    def fallback(self, value: Edge) -> tuple[str, ...]:
        """What a distribution without a name is called; nothing for a tensor."""
        kind = self.kind(value)
        return () if kind == "Tensor" else ("prior",) if kind == "UniformCodes" else ("posterior",)

    def condition(self, latents: ast.expr) -> str:
        """When posterior-only code runs: the model knows by its image, all others by their latents."""
        return "x is not None" if self.is_model else f"{syntax.unparse(latents)}.inferred"

    def _lists_of(self, values: Sequence[Edge]) -> list[str]:
        if not self._instance.is_section:
            return []
        return list(dict.fromkeys(self._tree.lists[v].list for v in values if v in self._tree.lists))

    def absent_lists(self, step: Step) -> list[tuple[str, int]]:
        """Lists that a conditional step would make, and how long they are."""
        lengths = [item.list for item in self._tree.lists.values()]
        return [(name, lengths.count(name)) for name in step.fills]

    def call_arguments(self, step: Step, operands: list[ast.expr]) -> list[ast.expr]:
        """A section takes a list as one argument."""
        if step.callee is None or not step.callee.is_section:
            return operands
        arguments: dict[str, ast.expr] = {}
        for i, (ref, operand) in enumerate(zip(step.inputs, operands, strict=True)):
            if isinstance(ref, ListItem):
                arguments[ref.list] = syntax.name(ref.list)
            else:
                arguments[f"{i}"] = operand
        return list(arguments.values())
