"""What steps do with what flows into them."""

from __future__ import annotations

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.joins import ADD
from hvdsl.compiler.catalogue.reshaping import CHUNK, SPLIT
from hvdsl.compiler.catalogue.structure import IAF, RESIDUAL, TAP
from hvdsl.compiler.catalogue.table import Kind
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import Bound, bind, call_parts
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.instances import apply_recipe, apply_shared
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.placing import add_node, place_node, settled
from hvdsl.compiler.elaboration.repeats import parallel, repeat
from hvdsl.compiler.elaboration.streams import one_tensor, run_block
from hvdsl.compiler.elaboration.values import (
    STEPS,
    BlockStep,
    ExpressionStep,
    Flowing,
    NamedStep,
    OperationStep,
    RecipeStep,
    SharedStep,
    Step,
    TapStep,
    Tensor,
)
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.faults import Fault
from hvdsl.compiler.evaluate.values import INVALID, Invalid
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def send(interpreter: Interpreter, flowing: Flowing, expr: tree.Expr, environment: Environment) -> Flowing:
    """`flowing -> expr`."""
    match expr:
        case tree.Flow():
            for step in expr.steps:
                flowing = interpreter.send(flowing, step, environment)
            return flowing
        case tree.Choose():
            return interpreter.send(flowing, interpreter.chosen(expr, environment), environment)
        case tree.Binary(operator="*"):
            return repeat(interpreter, flowing, expr, environment)
        case tree.WithBlock(head=tree.Name(id="parallel") | tree.Call(function=tree.Name(id="parallel"))):
            return parallel(interpreter, flowing, expr, environment)
    value = interpreter.evaluate(expr, environment)
    if flowing is None or value is None:
        return None
    if isinstance(value, Invalid) or isinstance(flowing, Invalid):
        return INVALID
    if not isinstance(value, STEPS):
        raise Fault(
            codes.WRONG_KIND,
            "only a step can stand after `->`",
            expr.span,
            describe(value),
            "a step: an operation, a recipe or a block",
            _not_a_step(expr),
        )
    return interpreter.apply(value, flowing, expr.span)


def _not_a_step(expr: tree.Expr) -> str:
    function = call_parts(expr)[0]
    operation = OPERATIONS.get(function.id) if isinstance(function, tree.Name) else None
    if operation is not None and operation.kind in (Kind.SOURCE, Kind.JOIN):
        return f"`{operation.name}` starts a flow: it makes a tensor of its arguments"
    return ""


def apply(interpreter: Interpreter, step: Step, flowing: Flowing, span: Span) -> Flowing:
    """Pass `flowing` into a step."""
    if flowing is None:
        return None
    if isinstance(flowing, Invalid):
        return INVALID
    match step:
        case OperationStep():
            return _apply_operation(interpreter, step, flowing, span)
        case RecipeStep():
            return apply_recipe(interpreter, step, flowing)
        case BlockStep():
            return run_block(interpreter, step.block, flowing, step.environment)
        case ExpressionStep():
            return interpreter.send(flowing, step.expr, step.environment)
        case NamedStep():
            with interpreter.builder.enter("part", step.name, span):
                return interpreter.apply(step.step, flowing, span)
        case TapStep():
            return publish(interpreter, step.name, flowing, span)
        case SharedStep():
            return apply_shared(interpreter, step, flowing, span)


def _apply_operation(interpreter: Interpreter, step: OperationStep, flowing: Flowing, span: Span) -> Flowing:
    operation = step.operation
    if isinstance(flowing, tuple):
        raise Fault(
            codes.WRONG_KIND,
            f"`{operation.name}` takes one tensor",
            span,
            f"a tuple of {len(flowing)}",
            "one tensor",
            "take the tuple apart first: `a, b = x`",
        )
    tensor = one_tensor(flowing, f"`{operation.name}`", span)
    bound = bind(interpreter, operation, step.call, step.environment)
    if bound.invalid:
        return INVALID
    if operation is RESIDUAL:
        return _residual(interpreter, step, bound, tensor, span)
    if operation is IAF:
        return _iaf(interpreter, step, bound, tensor, span)
    if operation is ADD and not bound.operands:
        return tensor  # `add(none)` changes nothing
    operands = [settled(interpreter, o, tensor.shape, span) for o in bound.operands]
    outputs = place_node(interpreter, operation, bound.args, (tensor, *operands), span)
    interpreter.builder.nodes[outputs[0].value.node].stated = bound.stated
    return outputs if operation in (SPLIT, CHUNK) else outputs[0]


def _body(step: OperationStep, span: Span) -> tree.Block:
    block = call_parts(step.call)[2]
    if block is None:
        raise Fault(
            codes.WRONG_ARGUMENTS,
            f"`{step.operation.name}` needs a block",
            span,
            expected=f"`{step.operation.name}(…) {{ … }}`",
        )
    return block


def _residual(interpreter: Interpreter, step: OperationStep, bound: Bound, tensor: Tensor, span: Span) -> Flowing:
    block = _body(step, span)
    shortcut: Flowing = tensor
    if "shortcut" in bound.steps:
        way, expr = bound.steps["shortcut"]
        with interpreter.builder.enter("part", "shortcut", expr.span):
            shortcut = interpreter.apply(way, tensor, expr.span)
    body = run_block(interpreter, block, tensor, step.environment)
    if isinstance(body, Invalid) or isinstance(shortcut, Invalid):
        return INVALID
    both = (one_tensor(shortcut, "a shortcut", span), one_tensor(body, "`residual`", block.span))
    return add_node(interpreter, RESIDUAL, bound.args, both, span)


def _iaf(interpreter: Interpreter, step: OperationStep, bound: Bound, tensor: Tensor, span: Span) -> Flowing:
    block = _body(step, span)
    body = run_block(interpreter, block, tensor, step.environment)
    parts = body if isinstance(body, tuple) else (body,)
    if any(isinstance(p, Invalid) for p in parts):
        return INVALID
    made = [one_tensor(p, "`iaf`", block.span) for p in parts]
    return add_node(interpreter, IAF, bound.args, (tensor, *made), span)


def publish(interpreter: Interpreter, name: str, flowing: Flowing, span: Span) -> Flowing:
    """`-> tap`: publish what passes."""
    if isinstance(flowing, Invalid) or flowing is None:
        return flowing
    if not interpreter.builder.place.startswith("encoder"):
        raise Fault(
            name_codes.MISPLACED,
            "only the encoder can tap",
            span,
            expected="`tap` in an encoder row, or in a recipe that the encoder places",
        )
    tensor = one_tensor(flowing, "`tap`", span)
    published = add_node(interpreter, TAP, {"name": name}, (tensor,), span)
    interpreter.taps.publish(name, published, span)
    return published
