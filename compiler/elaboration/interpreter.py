"""The state that elaborating one graph shares, the three ways in which an expression is used, and what flows.

The rules live in modules of their own, which call each other through this class: `expressions` (what
something is worth), `pipes` (what steps do), `statements` (bodies).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from hvdsl.compiler.catalogue.table import Argument
from hvdsl.compiler.diagnostics import limits
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.builder import GraphBuilder
from hvdsl.compiler.elaboration.environment import Environment, Owner, TopLevel
from hvdsl.compiler.elaboration.taps import Taps
from hvdsl.compiler.elaboration.values import DistributionValue, Drawn, Flowing, SharedInstance, Step, Tensor, Value
from hvdsl.compiler.evaluate.arithmetic import Invalid, describe
from hvdsl.compiler.evaluate.binding import OPERATION, Pairs, match
from hvdsl.compiler.evaluate.expressions import Evaluator
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostics, Exhausted, Fault
from hvdsl.grammar.source import Span

DEEPEST = 100  # evaluations within evaluations, some forty nested recipes; one takes up to seven Python frames
EVALUATIONS_PER_NODE = 20  # at the limit of nodes; published models take about six


def call_parts(call: tree.Expr) -> tuple[tree.Expr, tuple[tree.ArgumentNode, ...], tree.Block | None]:
    """Take `f(a, b) { … }` apart: what is called, its arguments, its block."""
    head, block = (call.head, call.block) if isinstance(call, tree.WithBlock) else (call, None)
    if isinstance(head, tree.Call):
        return head.function, head.arguments, block
    return head, (), block


class Interpreter(Evaluator[Environment]):
    """Elaborates expressions and statements into the graph of one builder."""

    def __init__(self, program: TopLevel, builder: GraphBuilder, diagnostics: Diagnostics) -> None:
        self.program = program
        self.builder = builder
        self.diagnostics = diagnostics
        self.taps = Taps()
        self.counts: dict[tuple[str, str], int] = {}  # instances placed, by (section, recipe)
        self.section_defaults: Environment | None = None
        self.place: tuple[str, tuple[int, int] | None] = ("model", None)  # section and label of what is elaborated
        self.shared: dict[str, SharedInstance] = {}
        self.drawn: dict[str, list[DistributionValue]] = {}  # priors of the latents drawn, by name
        self.failed = False  # some statement was given up, so that what follows is incomplete
        self.conditions: dict[str, Tensor] = {}  # fields of the data that were read
        self.depth = 0
        self.calls: list[Span] = []  # of the recipes that are being placed, outermost first
        self._texts: dict[int, tuple[tree.Expr, str]] = {}  # of expressions, by identity: one in a repeat comes often
        self._matches: dict[tuple[int, str], tuple[tree.Expr, Pairs]] = {}  # of calls, likewise
        self._evaluations = 0
        self._most_evaluations = EVALUATIONS_PER_NODE * builder.most_nodes

    def report(self, fault: Fault) -> None:
        """Record a fault; one in a used file says from where in the spec that part of it was reached."""
        diagnostic, span = fault.diagnostic, fault.diagnostic.span
        used = next((s for s in reversed(self.calls) if span is not None and s.source is not span.source), None)
        if used is not None:
            place = f"used from {used.source.name}, line {used.line}"
            diagnostic = replace(diagnostic, help=f"{diagnostic.help}; {place}" if diagnostic.help else place)
        self.diagnostics.add(diagnostic)
        self.failed = True

    def deepen(self, span: Span) -> None:
        """Count one level of nesting, and one evaluation; `depth` is to be lowered again afterwards.

        Raises:
            Fault: at the limit of either.
        """
        self._evaluations += 1
        if self._evaluations > self._most_evaluations:
            raise Exhausted(
                limits.TOO_MUCH_WORK,
                "the spec takes too long to expand",
                span,
                expected=f"at most {self._most_evaluations:,} evaluations",
                help="look for recipes that repeat each other many times over",
            )
        if self.depth >= DEEPEST:
            raise Fault(
                limits.NESTED_TOO_DEEP,
                "nested too deep",
                span,
                expected="recipes, blocks and lets nested some forty deep",
            )
        self.depth += 1

    def matched(self, name: str, declared: Sequence[Argument], call: tree.Expr) -> Pairs:
        """Pair what a call writes with what is declared (`match`); looked at once, however often it is placed."""
        known = self._matches.get((id(call), name))
        if known is None:
            arguments = call_parts(call)[1]
            known = self._matches[id(call), name] = call, match(name, declared, arguments, OPERATION)
        return known[1]

    @abstractmethod
    def evaluate(self, expr: tree.Expr, environment: Environment, wanted: Argument | None = None) -> Value:
        """Evaluate an expression to a value of any kind; a flow that starts with a step stays a step."""

    @abstractmethod
    def calculate(self, name: str, expr: tree.Call, environment: Environment) -> Value:
        """Return the value of a numeric function."""

    @abstractmethod
    def tensor(self, expr: tree.Expr, environment: Environment) -> Value:
        """Evaluate where a tensor is wanted: a flow that starts with a step starts from `x`."""

    @abstractmethod
    def send(self, flowing: Flowing, expr: tree.Expr, environment: Environment) -> Flowing:
        """Pass `flowing` into the step that `expr` says: `flowing -> expr`."""

    @abstractmethod
    def apply(self, step: Step, flowing: Flowing, span: Span) -> Flowing:
        """Pass `flowing` into a step."""

    @abstractmethod
    def run(self, body: tree.Block, environment: Environment) -> None:
        """Execute statements; `x` in `environment` is the result."""

    @abstractmethod
    def skip(self, name: str, owner: Owner, environment: Environment, span: Span) -> Tensor | Drawn | Invalid:
        """Read a tap at the row's label."""


def flowing(value: Value, span: Span) -> Flowing:
    """Return a value as something that can pass through steps.

    Raises:
        Fault: if it is no tensor, tuple of tensors or `none`.
    """
    if isinstance(value, Drawn):
        return value.tensor
    if value is None or isinstance(value, Tensor | Invalid):
        return value
    if isinstance(value, tuple) and value:
        parts = [v.tensor if isinstance(v, Drawn) else v for v in value]
        if all(p is None or isinstance(p, Tensor | Invalid) for p in parts):
            return tuple(p for p in parts if p is None or isinstance(p, Tensor | Invalid))
    raise Fault(codes.WRONG_KIND, "only tensors flow", span, describe(value), "a tensor or a tuple of tensors")


def current(interpreter: Interpreter, environment: Environment, span: Span) -> Flowing:
    """Return `x`, the tensor that a flow without a start starts from.

    Raises:
        Fault: where nothing has flowed in, as at the start of a decoder.
    """
    where = environment.find("x")
    value = where.names["x"] if where else ()
    if value == ():
        raise Fault(
            name_codes.NOTHING_FLOWS,
            "nothing flows in here yet",
            span,
            "a step",
            "a tensor to start from",
            "start with a source, such as `learned(zeros, 64) -> …`",
        )
    return flowing(value, span)


def one_tensor(flowing: Flowing, what: str, span: Span) -> Tensor:
    if isinstance(flowing, Tensor):
        return flowing
    raise Fault(codes.WRONG_KIND, f"{what} takes one tensor", span, describe(flowing), "one tensor")


def run_block(interpreter: Interpreter, block: tree.Block, flowing: Flowing, environment: Environment) -> Flowing:
    """Run `{ … }`: a recipe without a name, which sees the names around it and keeps its own."""
    inner = Environment(environment.frame.inside(flowing), environment.owner, environment, {"x": flowing})
    interpreter.run(block, inner)
    return result_of(inner, block.span)


def result_of(environment: Environment, span: Span) -> Flowing:
    """Return `x` at the end of a body."""
    value = environment.names["x"]
    if value is None or isinstance(value, Tensor | Invalid):
        return value
    if isinstance(value, tuple):
        return tuple(v for v in value if v is None or isinstance(v, Tensor | Invalid))
    raise Fault(codes.WRONG_KIND, "the result is no tensor", span, describe(value), "a tensor or a tuple of tensors")


def unshaped(expr: tree.Expr) -> Fault:
    return Fault(
        codes.WRONG_ARGUMENTS,
        "`learned` does not know its channels here",
        expr.span,
        expected="`learned(init, channels)`; only what is added to a tensor takes that tensor's shape",
    )
