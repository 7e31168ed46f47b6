"""What an expression is worth: numbers, words, tensors, distributions and steps."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.application import chosen
from hvdsl.compiler.elaboration.arguments import kind_of, static
from hvdsl.compiler.elaboration.calls import call
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.lookup import lookup
from hvdsl.compiler.elaboration.operators import binary, unary
from hvdsl.compiler.elaboration.placing import materialise
from hvdsl.compiler.elaboration.streams import current, flowing
from hvdsl.compiler.elaboration.values import (
    INVALID,
    STEPS,
    BlockStep,
    Distribution,
    Drawn,
    ExpressionStep,
    Invalid,
    Tensor,
    Unshaped,
    Value,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.constants import item_of, no_such_item, number_of
from hvdsl.grammar import tree


def evaluate(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Value:
    """Evaluate to a value of any kind; a flow that starts with a step stays a step."""
    match expr:
        case tree.Number():
            return number_of(expr)
        case tree.Name():
            return lookup(interpreter, expr, environment)
        case tree.Dim():
            return expr.sizes
        case tree.Call() | tree.WithBlock():
            return call(interpreter, expr, environment)
        case tree.Flow():
            return _flow(interpreter, expr, environment)
        case tree.Binary():
            return binary(interpreter, expr, environment)
        case tree.Unary():
            return unary(interpreter, expr, environment)
        case tree.Choose():
            return interpreter.evaluate(chosen(interpreter, expr, environment), environment)
        case tree.Tuple():
            return tuple(interpreter.evaluate(item, environment) for item in expr.items)
        case tree.List():
            return [interpreter.evaluate(item, environment) for item in expr.items]
        case tree.Item():
            return _item(interpreter, expr, environment)
        case tree.Block():
            return BlockStep(expr, environment)
        case tree.String():
            return expr.value
        case tree.Map():
            return expr


def tensor(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Value:
    """Evaluate where a tensor is wanted: a flow that starts with a step starts from `x`."""
    match expr:
        case tree.Flow():
            value = interpreter.tensor(expr.steps[0], environment)
            return _rest(interpreter, value, expr, environment)
        case tree.Choose():
            return interpreter.tensor(chosen(interpreter, expr, environment), environment)
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
    raise Fault(codes.WRONG_KIND, "a tuple of streams holds tensors", expr.span, kind_of(value), "a tensor")


def _flow(interpreter: Interpreter, expr: tree.Flow, environment: Environment) -> Value:
    value = interpreter.evaluate(expr.steps[0], environment)
    if isinstance(value, STEPS):
        return ExpressionStep(expr, environment)
    return _rest(interpreter, value, expr, environment)


def _rest(interpreter: Interpreter, value: Value, expr: tree.Flow, environment: Environment) -> Value:
    if isinstance(value, Unshaped):
        value = materialise(interpreter, value, None, expr.steps[0].span)
    if isinstance(value, Distribution):
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


def _item(interpreter: Interpreter, expr: tree.Item, environment: Environment) -> Value:
    base = interpreter.evaluate(expr.base, environment)
    key = interpreter.evaluate(expr.index, environment)
    if isinstance(base, Invalid) or isinstance(key, Invalid):
        return INVALID
    if not isinstance(base, tree.Map):
        if isinstance(base, list | tuple):
            position = arithmetic.integer(key, expr.index.span, "a position")
            if 0 <= position < len(base):
                return base[position]
        return item_of(static(base), static(key), expr)
    other: tree.Expr | None = None
    for entry in base.entries:
        if entry.key is None:
            other = other or entry.value
        elif interpreter.evaluate(entry.key, environment) == key:
            return interpreter.evaluate(entry.value, environment)
    if other is None:
        raise no_such_item(key, expr)
    return interpreter.evaluate(other, environment)
