"""What a call is worth: recipes, operations, taps, functions, words."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import call_parts, kind_of, term
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.lookup import let_value, square, unknown
from hvdsl.compiler.elaboration.placing import source
from hvdsl.compiler.elaboration.program import PUBLIC_OPERATIONS, WORDS
from hvdsl.compiler.elaboration.streams import flowing
from hvdsl.compiler.elaboration.values import (
    INVALID,
    Deferred,
    ExpressionStep,
    Invalid,
    NamedStep,
    OperationStep,
    RecipeStep,
    SharedInstance,
    SharedStep,
    TapStep,
    Value,
    first,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def call(interpreter: Interpreter, expr: tree.Call | tree.WithBlock, environment: Environment) -> Value:
    function, arguments, block = call_parts(expr)
    if not isinstance(function, tree.Name):
        raise Fault(codes.WRONG_KIND, "only a name can be called", function.span, expected="a recipe or operation")
    name = function.id
    where = environment.find(name)
    if where is not None:
        return _call_value(interpreter, where.names[name], expr, function, environment)
    if name in ("tap", "skip"):
        return _call_tap(interpreter, expr, name, arguments, environment)
    if name in ("channels", "res", "height", "width_px") and block is None:
        return _measure(interpreter, name, expr, arguments, environment)
    program = interpreter.program
    if name in program.lets:
        return _call_value(interpreter, let_value(interpreter, function, environment), expr, function, environment)
    if name in program.recipes:
        _no_block(block, f"`{name}`")
        return RecipeStep(program.recipes[name], expr, environment)
    if name in interpreter.shared:
        return _call_shared(interpreter.shared[name], arguments)
    if name in PUBLIC_OPERATIONS:
        if block is not None and not OPERATIONS[name].block:
            _no_block(block, f"`{name}`")
        return source(interpreter, OPERATIONS[name], expr, environment)
    if name == "parallel":
        return ExpressionStep(expr, environment)
    if name in arithmetic.FUNCTIONS and block is None:
        return _function(interpreter, name, arguments, expr.span, environment)
    if name in WORDS and isinstance(expr, tree.Call):
        return term(interpreter, name, expr, environment)
    raise unknown(interpreter, function, environment)


def _no_block(block: tree.Block | None, what: str) -> None:
    if block is not None:
        raise Fault(
            codes.WRONG_ARGUMENTS,
            f"{what} takes no block",
            block.span,
            expected="a block after `residual` or `iaf`",
        )


def _call_value(
    interpreter: Interpreter,
    value: Value,
    expr: tree.Call | tree.WithBlock,
    name: tree.Name,
    environment: Environment,
) -> Value:
    """Call what a name is bound to: a recipe or operation that was given without arguments takes these."""
    inner = value.step if isinstance(value, NamedStep) else value
    step: Value
    if isinstance(inner, RecipeStep) and isinstance(inner.call, tree.Name):
        step = RecipeStep(inner.recipe, expr, environment)
    elif isinstance(inner, OperationStep) and isinstance(inner.call, tree.Name):
        step = OperationStep(inner.operation, expr, environment)
    elif isinstance(value, SharedStep):
        return _call_shared(value.instance, call_parts(expr)[1])
    elif isinstance(value, Invalid):
        return INVALID
    else:
        raise Fault(
            codes.WRONG_KIND,
            f"`{name.id}` takes no arguments",
            name.span,
            kind_of(value),
            "a recipe or operation",
        )
    return NamedStep(value.name, step) if isinstance(value, NamedStep) else step


def tap_name(arguments: Sequence[tree.Argument], call: tree.Expr) -> str:
    """Return the name in `tap(name)` or `skip(name)`: tap names are a namespace of their own."""
    if len(arguments) == 1 and arguments[0].name is None and isinstance(arguments[0].value, tree.Name):
        return arguments[0].value.id
    raise Fault(
        codes.WRONG_ARGUMENTS,
        "a tap has one name",
        call.span,
        expected="`tap`, `tap(name)`, `skip`, `skip(name)`",
    )


def _call_tap(
    interpreter: Interpreter,
    expr: tree.Expr,
    name: str,
    arguments: Sequence[tree.Argument],
    environment: Environment,
) -> Value:
    tapped = tap_name(arguments, expr)
    if name == "tap":
        return TapStep(tapped)
    return interpreter.skip(tapped, environment.owner, environment, expr.span)


def _measure(
    interpreter: Interpreter,
    name: str,
    expr: tree.Expr,
    arguments: Sequence[tree.Argument],
    environment: Environment,
) -> Value:
    """`channels(t)`, `res(t)`: of a tensor at this point."""
    if len(arguments) != 1 or arguments[0].name is not None:
        raise Fault(codes.WRONG_ARGUMENTS, f"`{name}(…)` takes one tensor", expr.span)
    value = interpreter.tensor(arguments[0].value, environment)
    if isinstance(value, Invalid):
        return INVALID
    tensor = first(flowing(value, arguments[0].value.span))
    if tensor is None:
        raise Fault(codes.WRONG_KIND, "`none` has no shape", arguments[0].span, "none", "a tensor")
    if name == "res":
        return square(tensor.shape[1:], expr.span)
    return tensor.shape[{"channels": 0, "height": 1, "width_px": 2}[name]]


def _call_shared(instance: SharedInstance, arguments: Sequence[tree.Argument]) -> SharedStep:
    name = instance.name
    own: list[str] = []
    for argument in arguments:
        items = argument.value.items if isinstance(argument.value, tree.Tuple) else (argument.value,)
        if argument.name != "own" or not all(isinstance(i, tree.Name) for i in items):
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{name}` is one shared instance, and takes no arguments",
                argument.span,
                expected=f"`{name}` or `{name}(own = (gain, bias))`",
            )
        own += [i.id for i in items if isinstance(i, tree.Name)]
    return SharedStep(name, instance, tuple(own))


def _function(
    interpreter: Interpreter,
    name: str,
    arguments: Sequence[tree.Argument],
    span: Span,
    environment: Environment,
) -> Value:
    if any(a.name is not None for a in arguments):
        raise Fault(codes.WRONG_ARGUMENTS, f"`{name}` takes no named arguments", span)
    values = [interpreter.evaluate(a.value, environment) for a in arguments]
    if any(isinstance(v, Invalid) for v in values):
        return INVALID
    if any(isinstance(v, Deferred) for v in values):
        return Deferred(
            lambda totals: arithmetic.function(
                name, [v.compute(totals) if isinstance(v, Deferred) else v for v in values], span
            )
        )
    return arithmetic.function(name, values, span)
