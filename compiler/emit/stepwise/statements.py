"""Parts of a prior's graph as statements on whole maps: what is known beforehand, and linear maps as functions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from hvdsl.compiler.analysis.causality import own_codes
from hvdsl.compiler.catalogue.sources import COORDINATES
from hvdsl.compiler.emit import syntax
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.instance import given_name
from hvdsl.compiler.emit.modules.model_text import as_map
from hvdsl.compiler.emit.stepwise.depths import Parted, is_passed
from hvdsl.compiler.emit.stepwise.graph import Op, OpKind, Ref
from hvdsl.compiler.emit.stepwise.plan import LinearMap
from hvdsl.compiler.emit.syntax import Template, fill, slot, substitute
from hvdsl.compiler.graph import ENTRIES, Edge, Graph, Node
from hvdsl.grammar.record import Record, record


@record
class Statement(Record):
    """`targets = value`, or the value alone. `wanted` is what the spec calls it."""

    targets: tuple[str, ...]
    value: ast.expr
    wanted: str | None = None

    def lines(self, depth: int) -> list[str]:
        if not self.targets:
            return syntax.expression_lines("", self.value, depth=depth)
        return syntax.assignment_lines(self.targets, self.value, depth)


class Result(Statement):
    """The last statement of a function: its value is what the function returns."""

    __slots__ = ()

    def lines(self, depth: int) -> list[str]:
        return syntax.expression_lines("return ", self.value, depth=depth)


@record
class Function(Statement):
    """A function of tensors within a method; `targets` is its name and `value` its last statement's."""

    parameters: tuple[str, ...] = ()
    body: tuple[Statement, ...] = ()

    def lines(self, depth: int) -> list[str]:
        head = ", ".join(f"{name}: Tensor" for name in self.parameters)
        pad = syntax.INDENT * depth
        first = [f"{pad}def {self.targets[0]}({head}) -> Tensor:"]
        if len(first[0]) > syntax.WIDTH:
            first = [f"{pad}def {self.targets[0]}(", f"{pad}{syntax.INDENT}{head}", f"{pad}) -> Tensor:"]
        return ["", *first, *(line for s in self.body for line in s.lines(depth + 1)), ""]


def named(statements: Sequence[Statement], kept: Mapping[str, str], fallback: Sequence[str]) -> list[Statement]:
    """Give variables their names: the spec's, else the first of `fallback` whose value is not used any more.

    `kept` are names that are settled, of parameters; they hold to the end.
    """
    last: dict[str, int] = {}
    for at, statement in enumerate(statements):
        for read in _names(statement.value):
            last[read] = at
    names, until = dict(kept), {name: len(statements) for name in kept.values()}
    done: list[Statement] = []
    for at, statement in enumerate(statements):
        value = substitute(statement.value, {old: ast.Name(new, ast.Load()) for old, new in names.items()})
        targets: list[str] = []
        for target in statement.targets:
            busy = {name for name, end in until.items() if end > at} | set(targets)
            wanted = [allowed(statement.wanted)] if statement.wanted and len(statement.targets) == 1 else [*fallback]
            name = next((n for n in wanted if n not in busy), None) or unused(wanted[-1], busy)
            names[target], until[name] = name, last.get(target, at)
            targets.append(name)
        done.append(replace(statement, targets=tuple(targets), value=value))
    return done


def unused(name: str, taken: Set[str]) -> str:
    """The name, with a number behind it where it is taken."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _names(value: ast.expr) -> Iterable[str]:
    return (node.id for node in ast.walk(value) if isinstance(node, ast.Name))


LETTERS = "abcdefgh"


def module(node: Node, graph: Graph) -> ast.expr:
    """Where the prior keeps a node's layer: `prior.stem[0].above.conv[0]`."""
    path = node.path
    if not path:  # it owns no tensor: kept by its own count among its like
        like = [n for n in graph.nodes if n.operation is node.operation and n.scope is node.scope and not n.path]
        path = f"{node.scope.path}.{node.operation.name}.{like.index(node)}"
    steps = path.split(".")[1:]  # the first is the section
    return syntax.dotted("prior", *(int(s) if s.isdigit() else s for s in steps))


def concatenated(values: Sequence[ast.expr]) -> ast.expr:
    """`torch.cat((a, b), 1)`"""
    return syntax.call(syntax.dotted("torch", "cat"), ast.Tuple(list(values), ast.Load()), syntax.constant_node(1))


class MapWriter:
    """Writes the code of a prior's parts; names what is static. `taken` are the names of the constructor."""

    def __init__(self, graph: Graph, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self._graph = graph
        self._static: dict[Ref, str] = {}

    def static(self, ref: Ref) -> ast.Name:
        return syntax.name(self._static[ref])

    def statics(self, wanted: Sequence[Ref]) -> list[Statement]:
        """Compute these static tensors, and name them for the whole constructor."""
        values: dict[Ref, ast.expr] = {}
        statements = self._statements(wanted, values)
        done = []
        names: dict[str, str] = {}
        for statement in statements:
            targets = []
            for target in statement.targets:
                names[target] = unused(allowed(statement.wanted or "h"), self.taken)
                self.taken.add(names[target])
                targets.append(names[target])
            value = substitute(statement.value, {old: ast.Name(new, ast.Load()) for old, new in names.items()})
            done.append(Statement(tuple(targets), value))
        self._static = {
            ref: names[value.id] for ref, value in values.items() if isinstance(value, ast.Name) and value.id in names
        }
        return done

    def function(self, name: str, map: LinearMap, operands: Sequence[Sequence[Ref]]) -> Function:
        """A linear map as a function; each operand may hold several tensors side by side."""
        parameters: list[str] = []
        values: dict[Ref, ast.expr] = {}
        statements: list[Statement] = []
        for number, refs in enumerate(operands):
            parameter = "x" if len(operands) == 1 else LETTERS[number] if number < len(LETTERS) else f"a{number}"
            parameters.append(parameter)
            if len(refs) == 1:
                values[refs[0]] = syntax.name(parameter)
                continue
            pieces = [f"{parameter}_{i}" for i in range(len(refs))]
            values.update({ref: syntax.name(piece) for ref, piece in zip(refs, pieces, strict=True)})
            sizes = ast.Tuple([syntax.constant_node(r[0].channels[r[1]]) for r in refs], ast.Load())
            split = syntax.call(syntax.dotted(parameter, "split"), sizes, syntax.constant_node(1))
            statements.append(Statement(tuple(pieces), split))
        settled = [piece for s in statements for piece in s.targets]
        for ref in map.known:
            values[ref] = self.static(ref)
            parameters.append(self._static[ref])
        computed = self._statements(map.roots, values)
        results = [values[root] for root in map.roots]
        if len(results) > 1:
            together = syntax.call("joint_halves", *results) if map.halves else concatenated(results)
            computed.append(Result((), together))
        elif computed and isinstance(results[0], ast.Name) and computed[-1].targets == (results[0].id,):
            computed[-1] = Result((), computed[-1].value)
        else:
            computed.append(Result((), results[0]))
        kept = {own: own for own in (*parameters, *settled)}
        body = [*statements, *named(computed, kept, ("x", "h"))]
        return Function((name,), results[0], None, tuple(parameters), tuple(body))

    def heads(self, parts: Parted) -> list[Statement]:
        """The function `heads` of what the codes of a position share and of those codes, kept under that name."""
        own = own_codes(parts.shared)
        values: dict[Edge, ast.expr] = {Edge(own.index): syntax.name("codes")}
        statements: list[Statement] = []
        if len(parts.context) == 1:
            values[parts.context[0]] = syntax.name("shared")
        else:
            pieces = [f"shared_{i}" for i in range(len(parts.context))]
            sizes = [syntax.constant_node(parts.shared.shape(edge)[0]) for edge in parts.context]
            split = syntax.call(
                syntax.dotted("shared", "split"), ast.Tuple([*sizes], ast.Load()), syntax.constant_node(1)
            )
            statements.append(Statement(tuple(pieces), split))
            values |= {edge: syntax.name(piece) for edge, piece in zip(parts.context, pieces, strict=True)}
        settled = ("shared", "codes", *(target for statement in statements for target in statement.targets))
        computed: list[Statement] = []
        for node in parts.heads:
            operands = [values[edge] for edge in node.inputs]
            if is_passed(node):
                values[Edge(node.index)] = operands[0]
                continue
            names = [f"_head_{node.index}_{port}_" for port in range(len(node.shapes))]
            values.update({Edge(node.index, port): ast.Name(name, ast.Load()) for port, name in enumerate(names)})
            op = Op(OpKind.STATIC, node, (), tuple(shape[0] for shape in node.shapes), False)
            computed.append(Statement(tuple(names), self._value(op, operands), _wanted(op)))
        last = values[Edge(parts.heads[-1].index)]
        if computed and isinstance(last, ast.Name) and computed[-1].targets == (last.id,):
            computed[-1] = Result((), computed[-1].value)
        else:
            computed.append(Result((), last))
        body = [*statements, *named(computed, {name: name for name in settled}, ("x", "h"))]
        function = Function(("heads",), last, None, ("shared", "codes"), tuple(body))
        return [function, Statement(("self.heads",), syntax.name("heads"))]

    def _statements(self, wanted: Sequence[Ref], values: dict[Ref, ast.expr]) -> list[Statement]:
        """What computes the wanted tensors from those of `values`, to which the results are added."""
        statements: list[Statement] = []

        def compute(ref: Ref) -> ast.expr:
            if ref not in values:
                op = ref[0]
                if op.kind is OpKind.CODES:
                    raise AssertionError("the codes are no static tensor")
                operands = [] if op.node.operation is COORDINATES else [compute(r) for r in op.inputs]
                names = [f"_op_{op.node.index}_{len(statements)}_{i}_" for i in range(len(op.channels))]
                values.update({(op, i): ast.Name(n, ast.Load()) for i, n in enumerate(names)})
                statements.append(Statement(tuple(names), self._value(op, operands), _wanted(op)))
            return values[ref]

        for ref in wanted:
            compute(ref)
        return statements

    def _value(self, op: Op, operands: Sequence[ast.expr]) -> ast.expr:
        node = op.node
        if node.role in ENTRIES:
            return as_map(node, syntax.name(allowed(given_name(node))), syntax.dotted("buffers", "blank"))
        if node.operation is COORDINATES:
            return syntax.call("coordinates", syntax.dotted("buffers", "blank"))
        if node.operation.expression is None:
            return syntax.call(module(node, self._graph), *operands)
        shapes = [self._graph.shape(edge) for edge in node.inputs]
        text = node.operation.expression([slot(i) for i in range(len(operands))], shapes, node.args)
        return fill(Template(text), operands, ())


def _wanted(op: Op) -> str | None:
    """What a tensor that is known beforehand is called: by the spec's name, or what it is."""
    if len(op.channels) == 1 and op.node.names and op.node.names[0]:
        return op.node.names[0]
    if op.node.role in ENTRIES:
        return f"{given_name(op.node)}_map"
    return "position" if op.node.operation is COORDINATES else None
