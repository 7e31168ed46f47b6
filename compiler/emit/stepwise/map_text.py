"""Parts of a prior's graph as statements on whole maps: what is known beforehand, and linear maps as functions."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from hvdsl.compiler.catalogue.sources import COORDINATES
from hvdsl.compiler.emit import layout
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.instance import given_name
from hvdsl.compiler.emit.stepwise.graph import Kind, Ref
from hvdsl.compiler.emit.stepwise.plan import Map
from hvdsl.compiler.graph import ENTRIES, Graph, Node


def module(node: Node, graph: Graph) -> str:
    """Where the prior keeps a node's layer: `prior.stem[0].above.conv[0]`."""
    path = node.path
    if not path:  # it owns no tensor: kept by its own count among its like
        like = [n for n in graph.nodes if n.operation is node.operation and n.scope is node.scope and not n.path]
        path = f"{node.scope.path}.{node.operation.name}.{like.index(node)}"
    steps = path.split(".")[1:]  # the first is the section
    return "prior" + "".join(f"[{s}]" if s.isdigit() else f".{s}" for s in steps)


class MapText:
    """Writes the code of a prior's parts; names what is static."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._static: dict[Ref, str] = {}

    def name(self, ref: Ref) -> str:
        return self._static[ref]

    def static_lines(self, wanted: Sequence[Ref]) -> list[str]:
        """Compute these static tensors, and name them."""
        lines: list[str] = []
        self._static |= self._statements(wanted, {}, lines)
        return lines

    def function(self, name: str, map: Map, slots: Sequence[Sequence[Ref]]) -> list[str]:
        """A linear map as a function; each slot may hold several tensors side by side."""
        parameters: list[str] = []
        values: dict[Ref, str] = {}
        lines: list[str] = []
        for number, refs in enumerate(slots):
            parameter = chr(ord("a") + number) if number < 20 else f"a{number}"
            parameters.append(parameter)
            if len(refs) == 1:
                values[refs[0]] = parameter
                continue
            inner = [f"{parameter}_{i}" for i in range(len(refs))]
            values.update(zip(refs, inner, strict=True))
            lines.append(f"{', '.join(inner)} = {parameter}.split({tuple(r[0].channels[r[1]] for r in refs)}, 1)")
        for ref in map.known:
            values[ref] = self._static[ref]
        parameters += [self._static[ref] for ref in map.known]
        values = self._statements(map.roots, values, lines)
        results = ", ".join(values[root] for root in map.roots)
        if len(map.roots) == 1:
            last = f"return {results}"
            if lines and lines[-1].startswith(f"{results} = "):
                last = f"return {lines.pop().partition(' = ')[2]}"
        else:
            last = f"return joint_halves({results})" if map.halves else f"return torch.cat(({results}), 1)"
        head = ", ".join(f"{p}: Tensor" for p in parameters)
        return ["", f"def {name}({head}) -> Tensor:", *(layout.INDENT + line for line in (*lines, last)), ""]

    def simple(self, text: str) -> str:
        """An expression without parentheses that it does not need."""
        return layout.unparse(ast.parse(text, mode="eval").body)

    def _statements(self, wanted: Sequence[Ref], values: dict[Ref, str], lines: list[str]) -> dict[Ref, str]:
        """Add what computes the wanted tensors from those of `values`."""
        values = dict(values)

        def compute(ref: Ref) -> str:
            if ref not in values:
                op = ref[0]
                if op.kind is Kind.CODES:
                    raise AssertionError("the codes are no static tensor")
                operands = [] if op.node.operation is COORDINATES else [compute(r) for r in op.inputs]
                names = [
                    f"h_{op.node.index}" if len(op.channels) == 1 else f"h_{op.node.index}_{i}"
                    for i in range(len(op.channels))
                ]
                names = [_free(n, set(values.values())) for n in names]
                values.update({(op, i): n for i, n in enumerate(names)})
                lines.append(f"{', '.join(names)} = {self._expression(op.node, operands)}")
            return values[ref]

        for ref in wanted:
            compute(ref)
        return values

    def _expression(self, node: Node, operands: list[str]) -> str:
        if node.role in ENTRIES:
            return f"one_hot({allowed(given_name(node))}, {int(str(node.args['classes']))}, buffers.blank)"
        if node.operation is COORDINATES:
            return "coordinates(buffers.blank)"
        operation = node.operation
        if operation.expression is None:
            return f"{module(node, self._graph)}({', '.join(operands)})"
        return self.simple(operation.expression(operands, [self._graph.shape(v) for v in node.inputs], node.args))


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
