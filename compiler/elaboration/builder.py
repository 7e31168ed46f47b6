"""Builds a graph: nodes in order, the tree of scopes, and the numbering behind parameter names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal as Choice

from hvdsl.compiler import graph
from hvdsl.compiler.catalogue.table import Operation
from hvdsl.compiler.diagnostics import limits, names
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.values import SharedInstance, Tensor
from hvdsl.compiler.evaluate.arithmetic import Totals, is_deferred, resolve
from hvdsl.compiler.graph import GraphScope, Literal, Node, Parameter, Shape, attribute_name
from hvdsl.errors import UsageError
from hvdsl.grammar.diagnostics import Exhausted, Fault
from hvdsl.grammar.source import Span

MOST_NODES = 20_000  # unless the variable says otherwise; the largest shipped model has some three thousand
MOST_NODES_VARIABLE = "HVDSL_MOST_OPERATIONS"
MOST_ELEMENTS = 2**48  # of one tensor or parameter

ScopeKind = Choice["section", "row", "recipe", "binding", "part", "repeat", "turn", "shared"]


def most_nodes() -> int:
    """Return how many operations one graph may have: `HVDSL_MOST_OPERATIONS`, or 20,000.

    Raises:
        UsageError: if the variable is no whole number above 0.
    """
    text = os.environ.get(MOST_NODES_VARIABLE, "")
    if not text:
        return MOST_NODES
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise UsageError(f"{MOST_NODES_VARIABLE} is a whole number from 1 to 999999999, not {text[:20]!r}")
    return int(text)


class GraphBuilder:
    """One graph in the making."""

    def __init__(self, name: str, span: Span) -> None:
        self.name = name
        self.most_nodes = most_nodes()
        self.root = GraphScope("model", name, None, None, span)
        self.scope = self.root
        self.path = ""
        self.place = ""  # the same, but inside a shared instance from where it is used: `decoder.r4.step.1.z`
        self._uses: Counter[str] = Counter()  # of shared instances, by place
        self.nodes: list[Node] = []
        self.latents: list[graph.GraphLatent] = []
        self._numbers: dict[str, dict[str, int]] = {}
        self._plain: dict[str, set[str]] = {}  # names without a number, by the path that they stand in
        self._shared: dict[str, set[str]] = {}  # names of shared instances, by the path that they are declared in
        self._calls: dict[object, tuple[tuple[Shape, ...], tuple[Parameter, ...]]] = {}
        self._late: list[tuple[Node, Operation]] = []
        self._sharing: GraphScope | None = None  # the use of a shared instance that is being placed,
        self._sharing_later = False  # and whether the instance was there before

    @contextmanager
    def enter(self, kind: ScopeKind, name: str, span: Span, *, numbered: bool = False) -> Iterator[GraphScope]:
        """Open a scope inside the current one. Empty ones leave no trace but their number."""
        above, path, place = self.scope, self.path, self.place
        name = attribute_name(name)
        if not numbered and kind not in ("repeat", "turn"):
            name = self._beside(name, self._shared.get(path, ()))
            self._plain.setdefault(path, set()).add(name)
        scope = GraphScope(kind, name, self.number(name) if numbered else None, above, span)
        if name in self._plain.get(path, ()) and name in self._numbers.get(path, {}):
            raise _named_twice(path, name, span)
        above.members.append(scope)
        self.scope = scope
        if kind not in ("repeat", "turn"):
            own = name if scope.number is None else f"{name}.{scope.number}"
            self.path, self.place = _joined(path, own), _joined(place, own)
        try:
            yield scope
        finally:
            if not scope.members:
                above.members.remove(scope)
            self.scope, self.path, self.place = above, path, place

    def declare_shared(self, name: str) -> tuple[str, int | None]:
        """Name a shared instance that is declared here, beside all that has a name of its own in this place.

        One that is declared in a turn of a repeat is numbered, since turns have no part in paths.
        """
        name = attribute_name(name)
        scope: GraphScope | None = self.scope
        while scope is not None and not scope.named:
            if scope.kind == "turn":
                return name, self.number(name)
            scope = scope.parent
        shared = self._shared.setdefault(self.path, set())
        name = self._beside(name, {*shared, *self._plain.get(self.path, ()), *self._numbers.get(self.path, ())})
        shared.add(name)
        return name, None

    @staticmethod
    def _beside(name: str, taken: Collection[str]) -> str:
        """The name, with a number behind it where another thing of this place has it."""
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        return free

    @contextmanager
    def enter_shared(
        self, shared: SharedInstance, later: bool, own: tuple[str, ...], span: Span
    ) -> Iterator[GraphScope]:
        """Open a use of a shared instance: named where it is declared, held where it is used.

        Raises:
            Fault: if roles of its own are asked for where instances are used within instances.
        """
        if self._sharing is not None and (own or self._sharing.own):
            raise _nested(shared.name, span)
        above = (self.scope, self.path, self.place, self._numbers, self._shared, self._sharing, self._sharing_later)
        name = shared.attribute
        scope = GraphScope("shared", name, shared.number, shared.scope, span)
        self.scope.members.append(scope)
        if later and own:
            scope.own, scope.own_path = own, self._own_path(shared.scope, f"{name}_own", span)
        use = _joined(self.place, name)
        self.place = f"{use}.{self._uses[use]}"
        self._uses[use] += 1
        self.scope, self.path = scope, scope.path
        if self._sharing is not None:
            later = later or self._sharing_later  # all inside a later use is used before
        self._numbers, self._shared, self._sharing, self._sharing_later = {}, {}, scope, later
        try:
            yield scope
        finally:
            (self.scope, self.path, self.place, self._numbers, self._shared, self._sharing, self._sharing_later) = above

    def _own_path(self, declared: GraphScope, name: str, span: Span) -> str:
        """Name what a use has for itself, beside the instance: in the recipe, section or model that declares it."""
        while declared.kind not in ("model", "section", "recipe") and declared.parent is not None:
            declared = declared.parent
        path = declared.path
        numbers = self._numbers.setdefault(path, {})
        number = numbers.get(name, 0)
        numbers[name] = number + 1
        if name in self._plain.get(path, ()):
            raise _named_twice(path, name, span)
        return _joined(path, f"{name}.{number}")

    def number(self, name: str) -> int:
        """Count `name` among its siblings in the current named scope, from 0."""
        numbers = self._numbers.setdefault(self.path, {})
        n = numbers.get(name, 0)
        numbers[name] = n + 1
        return n

    def operation(
        self, operation: Operation, args: Mapping[str, Literal], inputs: Sequence[Tensor], span: Span
    ) -> tuple[Tensor, ...]:
        """Add a node that applies an operation of the table; shapes and parameters follow from its rules.

        Raises:
            OperationError: if the operation cannot take these shapes or arguments.
            Fault: if the graph or a tensor becomes too large.
        """
        late = any(map(is_deferred, args.values()))
        outputs, parameters = self._follows(operation, args, tuple([t.shape for t in inputs]), late, span)
        path = ""
        if parameters:
            path = f"{self.path}.{operation.name}.{self.number(operation.name)}".lstrip(".")
        node = self.node(operation, args, inputs, outputs, span)
        node.parameters, node.path = parameters, path
        if parameters and self._sharing is not None and self._sharing_later:
            own = self._sharing.own
            node.shared = tuple(p.role for p in parameters if p.role not in own)
            if len(node.shared) < len(parameters):
                node.own_path = self._sharing.own_path + path[len(self._sharing.path) :]
        if late:
            self._late.append((node, operation))
        return tuple(Tensor(graph.Edge(node.index, i), shape) for i, shape in enumerate(outputs))

    def _follows(
        self, operation: Operation, args: Mapping[str, Literal], shapes: tuple[Shape, ...], late: bool, span: Span
    ) -> tuple[tuple[Shape, ...], tuple[Parameter, ...]]:
        """The outputs and parameters of an operation: in a deep model the same call comes a hundred times."""
        call = None if late else (operation.name, shapes, tuple(args.items()))
        known = self._calls.get(call)
        if known is not None:
            return known
        outputs = operation.shape(shapes, args)
        parameters = operation.parameters(shapes, args) if operation.parameters else ()
        for size in (*(c * h * w for c, h, w in outputs), *(p.size for p in parameters)):
            if size > MOST_ELEMENTS:
                raise Fault(
                    limits.TENSOR_TOO_LARGE,
                    "this makes a tensor of unreasonable size",
                    span,
                    f"{size:,} elements",
                    f"at most {MOST_ELEMENTS:,}",
                )
        if call is not None:
            self._calls[call] = outputs, parameters
        return outputs, parameters

    def node(
        self,
        operation: Operation,
        args: Mapping[str, Literal],
        inputs: Sequence[Tensor],
        shapes: tuple[Shape, ...],
        span: Span,
    ) -> Node:
        """Add a node in the current scope."""
        if len(self.nodes) >= self.most_nodes:
            raise self._too_many(span)
        node = Node(len(self.nodes), operation, args, tuple(t.value for t in inputs), shapes, self.scope, span)
        self.nodes.append(node)
        self.scope.members.append(node)
        return node

    def _too_many(self, span: Span) -> Exhausted:
        """Say that there are too many nodes, at the outermost repeat that they are in."""
        scope: GraphScope | None = self.scope
        repeats: GraphScope | None = None
        while scope is not None:
            repeats = scope if scope.kind == "repeat" else repeats
            scope = scope.parent
        inside = "" if repeats is None else f", {sum(1 for _ in repeats.nodes()):,} of them in this repeat so far"
        return Exhausted(
            limits.TOO_MANY_NODES,
            "the expanded model has too many operations",
            span if repeats is None else repeats.span,
            f"more than {self.most_nodes:,}{inside}",
            f"at most {self.most_nodes:,}",
            f"repeat less, or set the environment variable {MOST_NODES_VARIABLE} to a larger number",
        )

    def entry(self, operation: Operation, args: Mapping[str, Literal], shape: Shape, span: Span) -> Node:
        """Add a node for what the graph is given from outside: it belongs to the whole, wherever it is first read."""
        scope, self.scope = self.scope, self.root
        try:
            node = self.node(operation, args, (), (shape,), span)
        finally:
            self.scope = scope
        entries = sum(isinstance(member, Node) and member.role in graph.ENTRIES for member in self.root.members[:-1])
        self.root.members.insert(entries, self.root.members.pop())
        return node

    def withdraw(self, tensor: Tensor) -> bool:
        """Take the newest node back, if it is the one that makes `tensor`."""
        if tensor.value.node != len(self.nodes) - 1:
            return False
        node = self.nodes.pop()
        node.scope.members.remove(node)
        return True

    def settle(self, totals: Totals) -> None:
        """Put `count` and `latents` into every argument, initial value and constant that used them."""
        for node, operation in self._late:
            node.args = {k: resolve(v, totals) for k, v in node.args.items()}
            if operation.parameters:
                node.parameters = operation.parameters(
                    [self.nodes[v.node].shapes[v.port] for v in node.inputs], node.args
                )
        _settle_constants(self.root, totals)


def _named_twice(path: str, name: str, span: Span) -> Fault:
    return Fault(
        names.NAMED_TWICE,
        f"`{name}` names a binding and a recipe in one place",
        span,
        f"`{_joined(path, name)}` and `{_joined(path, name)}.0`",
        "different names, since parameters are called after them",
        "rename the binding",
    )


def _nested(name: str, span: Span) -> Fault:
    return Fault(
        codes.WRONG_ARGUMENTS,
        "roles of its own cannot be told apart where one shared instance uses another",
        span,
        f"a use of `{name}` inside a use of another shared instance, one of them with `own`",
        "`own` where no shared instance is used inside another",
        "make the outer or the inner one a `cell`, which is placed anew at each use",
    )


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _settle_constants(scope: GraphScope, totals: Totals) -> None:
    todo = [scope]
    while todo:
        scope = todo.pop()
        if any(map(is_deferred, scope.constants.values())):
            scope.constants = {k: resolve(v, totals) for k, v in scope.constants.items()}
        todo += [m for m in scope.members if isinstance(m, GraphScope)]
