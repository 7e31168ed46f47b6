"""What flows, and what operators make of tensors and steps: what elaboration adds to the evaluator."""

from __future__ import annotations

from hvdsl.compiler.catalogue.arithmetic import NEG, OPERATORS
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import static
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter, current, flowing
from hvdsl.compiler.elaboration.nodes import add_node, materialise
from hvdsl.compiler.elaboration.values import (
    STEPS,
    BlockStep,
    DistributionValue,
    Drawn,
    ExpressionStep,
    Tensor,
    Unshaped,
    Value,
)
from hvdsl.compiler.evaluate.arithmetic import INVALID, Deferred, Invalid, describe
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.source import Span

UNHANDLED = object()
"""What `operate` and `negate` return for values without tensors or steps, which the evaluator knows itself."""


def tensor(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Value:
    """Evaluate where a tensor is wanted: a flow that starts with a step starts from `x`."""
    match expr:
        case tree.Flow():
            value = interpreter.tensor(expr.steps[0], environment)
            return _rest(interpreter, value, expr, environment)
        case tree.Choose():
            return interpreter.tensor(interpreter.chosen(expr, environment), environment)
        case tree.Tuple():
            return tuple(_part(interpreter, item, environment) for item in expr.items)
    value = interpreter.evaluate(expr, environment)
    if isinstance(value, STEPS):
        return interpreter.send(current(interpreter, environment, expr.span), expr, environment)
    return value


def _part(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Tensor | Invalid | None:
    """Evaluate one of several streams; one that fails leaves the others."""
    value = interpreter.tensor(expr, environment)
    if isinstance(value, Drawn):
        value = value.tensor
    if value is None or isinstance(value, Tensor | Invalid):
        return value
    raise Fault(codes.WRONG_KIND, "a tuple of streams holds tensors", expr.span, describe(value), "a tensor")


def flow(interpreter: Interpreter, expr: tree.Flow | tree.Block, environment: Environment) -> Value:
    """Return what `a -> b` or `{ … }` is worth; what starts with a step stays a step."""
    if isinstance(expr, tree.Block):
        return BlockStep(expr, environment)
    value = interpreter.evaluate(expr.steps[0], environment)
    if isinstance(value, STEPS):
        return ExpressionStep(expr, environment)
    return _rest(interpreter, value, expr, environment)


def _rest(interpreter: Interpreter, value: Value, expr: tree.Flow, environment: Environment) -> Value:
    if isinstance(value, Unshaped):
        value = materialise(interpreter, value, None, expr.steps[0].span)
    if isinstance(value, DistributionValue):
        raise Fault(
            name_codes.FLOW_OF_PRIOR,
            "a distribution does not flow",
            expr.steps[0].span,
            "a distribution",
            "a tensor",
            "only the posterior of a latent may be followed by steps: `z ~ … posterior D -> step`",
        )
    result = flowing(value, expr.steps[0].span)
    for step in expr.steps[1:]:
        result = interpreter.send(result, step, environment)
    return result


def negate(interpreter: Interpreter, expr: tree.Unary, value: object) -> object:
    """Return `-value` of a tensor."""
    if isinstance(value, Drawn):
        value = value.tensor
    if isinstance(value, Tensor) and expr.operator == "-":
        return add_node(interpreter, NEG, {}, (value,), expr.span)
    return UNHANDLED


def operate(
    interpreter: Interpreter, expr: tree.Binary, left: object, right: object, environment: Environment
) -> object:
    """Return what an operator makes of tensors and steps."""
    op = expr.operator
    if op == "*" and isinstance(left, STEPS):
        return _step_times(expr, right, environment)
    if op in ("==", "!=") and (left is None or right is None):
        return (left is right) == (op == "==")
    if op in ("+", "-", "*", "/") and (_streams(left) or _streams(right)):
        return _tensors(interpreter, expr, left, right, environment)
    if isinstance(left, STEPS) or isinstance(right, STEPS):
        raise Fault(
            codes.WRONG_KIND,
            "arithmetic on a step",
            expr.span,
            f"{describe(left)} {op} {describe(right)}",
            "tensors or numbers",
            "write `x -> step` to apply it first",
        )
    if left is None and right is None and op in ("+", "-"):
        return None
    for value, side in ((left, expr.left), (right, expr.right)):
        if not isinstance(value, Deferred):
            _plain(value, side.span)
    return UNHANDLED


def _plain(value: object, span: Span) -> object:
    plain = static(value)
    if isinstance(plain, Invalid):
        raise Fault(
            codes.WRONG_KIND,
            "arithmetic takes numbers or tensors",
            span,
            describe(value),
            "a number or tensor",
        )
    return plain


def _streams(value: object) -> bool:
    return isinstance(value, Tensor | Drawn | Unshaped)


def _step_times(expr: tree.Binary, right: object, environment: Environment) -> Value:
    if isinstance(right, STEPS) or _streams(right):
        raise Fault(
            codes.WRONG_KIND,
            "arithmetic on a step",
            expr.span,
            f"a step * {describe(right)}",
            "a step and how often to repeat it, or two tensors",
            "write `(x -> step) * …` to multiply what the step makes",
        )
    return ExpressionStep(expr, environment)


def _tensors(
    interpreter: Interpreter, expr: tree.Binary, left: object, right: object, environment: Environment
) -> Value:
    """Arithmetic with a tensor: elementwise; `none` adds nothing; a step is applied to `x`."""
    operands: list[Tensor | Unshaped | int | float | None] = []
    for value, side in ((left, expr.left), (right, expr.right)):
        if isinstance(value, STEPS):
            value = interpreter.send(current(interpreter, environment, side.span), side, environment)
        if isinstance(value, Drawn):
            value = value.tensor
        if isinstance(value, Invalid):
            return INVALID
        if not (
            value is None
            or isinstance(value, Tensor | Unshaped)
            or (isinstance(value, int | float) and not isinstance(value, bool))
        ):
            raise Fault(
                codes.WRONG_KIND,
                "arithmetic takes numbers or tensors",
                side.span,
                describe(value),
                "a number or tensor",
            )
        operands.append(value)
    a, b = operands
    if a is None or b is None:
        if expr.operator == "+" or (expr.operator == "-" and b is None):
            kept = a if b is None else b
            return materialise(interpreter, kept, None, expr.span) if isinstance(kept, Unshaped) else kept
        raise Fault(
            codes.WRONG_KIND,
            f"`none` cannot stand at this side of `{expr.operator}`",
            expr.span,
            "none",
            "a tensor",
        )
    if isinstance(a, Unshaped):
        a = materialise(interpreter, a, b.shape if isinstance(b, Tensor) else None, expr.left.span)
    if isinstance(b, Unshaped):
        b = materialise(interpreter, b, a.shape if isinstance(a, Tensor) else None, expr.right.span)
    operator = OPERATORS[expr.operator]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return add_node(interpreter, operator.tensors, {}, (a, b), expr.span)
    if isinstance(a, Tensor) and isinstance(b, int | float):
        return add_node(interpreter, operator.number, {"number": b}, (a,), expr.span)
    if isinstance(b, Tensor) and isinstance(a, int | float):
        return add_node(interpreter, operator.of_number, {"number": a}, (b,), expr.span)
    raise TypeError(f"neither {a!r} nor {b!r} is a tensor")
