"""Operators: arithmetic on numbers and tensors, comparisons, repeats as values."""

from __future__ import annotations

from hvdsl.compiler.catalogue.arithmetic import NEG, OPERATORS
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import kind_of, static
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.placing import add_node, materialise
from hvdsl.compiler.elaboration.streams import current
from hvdsl.compiler.elaboration.values import (
    INVALID,
    STEPS,
    Deferred,
    Drawn,
    ExpressionStep,
    Invalid,
    Tensor,
    Unshaped,
    Value,
    deferred_binary,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def unary(interpreter: Interpreter, expr: tree.Unary, environment: Environment) -> Value:
    value = interpreter.evaluate(expr.operand, environment)
    if isinstance(value, Invalid):
        return INVALID
    if expr.operator == "not":
        return not arithmetic.switch(value, expr.operand.span)
    if isinstance(value, Drawn):
        value = value.tensor
    if isinstance(value, Tensor):
        return add_node(interpreter, NEG, {}, (value,), expr.span)
    if isinstance(value, Deferred):
        return deferred_binary(lambda a, b: arithmetic.binary("-", a, b, expr.span), 0, value)
    return -arithmetic.number(value, expr.operand.span)


def binary(interpreter: Interpreter, expr: tree.Binary, environment: Environment) -> Value:
    left = interpreter.evaluate(expr.left, environment)
    op = expr.operator
    if op == "*" and isinstance(left, STEPS):
        return _step_times(interpreter, expr, environment)
    if op in ("and", "or"):
        if isinstance(left, Invalid):
            return INVALID
        switch = arithmetic.switch(left, expr.left.span)
        if switch == (op == "or"):
            return switch
        right = interpreter.evaluate(expr.right, environment)
        return INVALID if isinstance(right, Invalid) else arithmetic.switch(right, expr.right.span)
    right = interpreter.evaluate(expr.right, environment)
    if isinstance(left, Invalid) or isinstance(right, Invalid):
        return INVALID
    if op in ("==", "!=") and (left is None or right is None):
        return (left is right) == (op == "==")
    if op in ("+", "-", "*", "/") and (_streams(left) or _streams(right)):
        return _tensors(interpreter, expr, left, right, environment)
    if isinstance(left, STEPS) or isinstance(right, STEPS):
        raise Fault(
            codes.WRONG_KIND,
            "arithmetic on a step",
            expr.span,
            f"{kind_of(left)} {op} {kind_of(right)}",
            "tensors or numbers",
            "write `x -> step` to apply it first",
        )
    if isinstance(left, Deferred) or isinstance(right, Deferred):
        if op in ("==", "!=", "<", "<=", ">", ">="):
            raise Fault(
                codes.COUNT_IN_SHAPE,
                "nothing can be decided by `count` or `latents`",
                expr.span,
                expected="values that are known before everything is placed",
            )
        return deferred_binary(lambda a, b: arithmetic.binary(op, a, b, expr.span), left, right)
    if left is None and right is None and op in ("+", "-"):
        return None
    return arithmetic.binary(op, _plain(left, expr.left.span), _plain(right, expr.right.span), expr.span)


def _plain(value: Value, span: Span) -> object:
    plain = static(value)
    if isinstance(plain, Invalid):
        raise Fault(
            codes.WRONG_KIND,
            "arithmetic takes numbers or tensors",
            span,
            kind_of(value),
            "a number or tensor",
        )
    return plain


def _streams(value: Value) -> bool:
    return isinstance(value, Tensor | Drawn | Unshaped)


def _step_times(interpreter: Interpreter, expr: tree.Binary, environment: Environment) -> Value:
    right = interpreter.evaluate(expr.right, environment)
    if isinstance(right, STEPS) or _streams(right):
        raise Fault(
            codes.WRONG_KIND,
            "arithmetic on a step",
            expr.span,
            f"a step * {kind_of(right)}",
            "a step and how often to repeat it, or two tensors",
            "write `(x -> step) * …` to multiply what the step makes",
        )
    return ExpressionStep(expr, environment)


def _tensors(interpreter: Interpreter, expr: tree.Binary, left: Value, right: Value, environment: Environment) -> Value:
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
                kind_of(value),
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
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return add_node(interpreter, OPERATORS[expr.operator].tensors, {}, (a, b), expr.span)
    if isinstance(a, Tensor) and isinstance(b, int | float):
        return add_node(interpreter, OPERATORS[expr.operator].number, {"number": b}, (a,), expr.span)
    if isinstance(b, Tensor) and isinstance(a, int | float):
        return add_node(interpreter, OPERATORS[expr.operator].of_number, {"number": a}, (b,), expr.span)
    raise TypeError(f"neither {a!r} nor {b!r} is a tensor")
