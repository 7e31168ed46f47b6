"""What steps do with what flows into them: operations, recipes, shared instances, repeats and `parallel`."""

from __future__ import annotations

from dataclasses import replace

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.arithmetic import SUB
from hvdsl.compiler.catalogue.joins import ADD, CONCAT, MEAN
from hvdsl.compiler.catalogue.reshaping import CHUNK, SPLIT
from hvdsl.compiler.catalogue.structure import IAF, RESIDUAL, TAP
from hvdsl.compiler.catalogue.table import OperationKind, Required
from hvdsl.compiler.diagnostics import limits
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import Bound, bind, static
from hvdsl.compiler.elaboration.environment import ANYTHING, Environment, Frame, Owner
from hvdsl.compiler.elaboration.interpreter import Interpreter, call_parts, one_tensor, result_of, run_block
from hvdsl.compiler.elaboration.nodes import add_node, place_node, settled
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
    Value,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import INVALID, Deferred, Invalid, describe
from hvdsl.compiler.evaluate.binding import OPERATION, missing
from hvdsl.compiler.graph import GraphScope
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.source import Span

MOST_REPEATS = 10_000


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
    try:
        value = interpreter.evaluate(expr, environment)
    except Fault as fault:
        if fault.diagnostic.span != expr.span or not _not_a_step(expr):
            raise
        raise _only_steps(expr, "a tensor") from None  # of what it joins, `x` is not what flows here
    if flowing is None or value is None:
        return None
    if isinstance(value, Invalid) or isinstance(flowing, Invalid):
        return INVALID
    if not isinstance(value, STEPS):
        raise _only_steps(expr, describe(value))
    return interpreter.apply(value, flowing, expr.span)


def _only_steps(expr: tree.Expr, found: str) -> Fault:
    expected = "a step: an operation, a recipe or a block"
    return Fault(codes.WRONG_KIND, "only a step can stand after `->`", expr.span, found, expected, _not_a_step(expr))


def _not_a_step(expr: tree.Expr) -> str:
    function = call_parts(expr)[0]
    operation = OPERATIONS.get(function.id) if isinstance(function, tree.Name) else None
    if operation is not None and operation.kind in (OperationKind.SOURCE, OperationKind.JOIN):
        return f"it makes a tensor of its arguments: in a flow it stands in braces, `{{ {operation.name}(…) }}`"
    if isinstance(expr, tree.List):
        return "write one step behind the other: `a -> b`"
    return ""


def apply_step(interpreter: Interpreter, step: Step, flowing: Flowing, span: Span) -> Flowing:
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
        case NamedStep(step=OperationStep() as inner) if inner.operation.parameters is None:
            return _apply_operation(interpreter, inner, flowing, span)  # it owns nothing that a name would be for
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
    outputs = [one_tensor(p, "`iaf`", block.span) for p in parts]
    return add_node(interpreter, IAF, bound.args, (tensor, *outputs), span)


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


def apply_recipe(interpreter: Interpreter, step: RecipeStep, flowing: Flowing) -> Flowing:
    recipe, caller, name = step.recipe, step.environment.frame, step.recipe.name.id
    key = (caller.section, name)
    index = interpreter.counts.get(key, 0)
    interpreter.counts[key] = index + 1
    given = _parameters(interpreter, step)
    with interpreter.builder.enter("recipe", name, step.call.span, numbered=True) as scope:
        scope.definition, scope.comments = (recipe.kind, recipe.name.span), recipe.before
        scope.parameters = tuple(parameter.name.id for parameter in recipe.parameters)
        frame = Frame(caller.section, caller.label, flowing, name, index, scope=scope)
        environment = Environment(frame, Owner(recipe.kind, name), names={"x": flowing})
        for parameter in recipe.parameters:
            own = parameter.name.id
            if own in given:
                value = given[own]
            elif parameter.default is not None:
                value = interpreter.evaluate(parameter.default, environment, ANYTHING)
            else:
                continue
            environment.names[own] = _named(own, value)
            plain = static(value)
            if not isinstance(plain, Invalid):
                scope.constants[own] = plain
        _note_names(scope, environment)
        interpreter.calls.append(step.call.span)
        interpreter.run(recipe.body, environment)
        interpreter.calls.pop()
        _note_names(scope, environment)
        return result_of(environment, recipe.name.span)


def _note_names(scope: GraphScope, environment: Environment) -> None:
    """Keep the first name that a recipe has for each tensor: `x` flows on while its body runs."""
    for name, value in environment.names.items():
        if isinstance(value, Tensor):
            scope.names.setdefault(value.value, name)


def _named(name: str, value: Value) -> Value:
    if not isinstance(value, STEPS):
        return value
    return NamedStep(name, value.step if isinstance(value, NamedStep) else value)


def _parameters(interpreter: Interpreter, step: RecipeStep) -> dict[str, Value]:
    """Evaluate the arguments of a call at the call; defaults are the callee's business."""
    name, declared = step.recipe.name.id, interpreter.program.parameters(step.recipe)
    pairs = interpreter.matched(name, declared, step.call)
    given = {p.name: interpreter.evaluate(written.value, step.environment, p) for p, written in pairs}
    for parameter in declared:
        if isinstance(parameter.default, Required) and parameter.name not in given:
            raise missing(name, parameter, declared, step.call.span, OPERATION)
    return given


def apply_shared(interpreter: Interpreter, step: SharedStep, flowing: Flowing, span: Span) -> Flowing:
    """One more use of an instance: it counts once, and reads and draws at the row of its use."""
    instance, placed = step.instance, interpreter.counts
    later = instance.counts is not None
    if instance.counts is None:
        instance.counts = dict(placed)
    else:
        interpreter.counts = dict(instance.counts)
    above = instance.environment
    section, label = interpreter.place
    environment = Environment(replace(above.frame, section=section, label=label), above.owner, above)
    try:
        with interpreter.builder.enter_shared(instance, later, step.own, span) as scope:
            scope.definition = "shared", instance.value.span
            result = interpreter.send(flowing, instance.value, environment)
            _check_own(step, scope, span)
            return result
    finally:
        if later:
            interpreter.counts = placed


def _check_own(step: SharedStep, scope: GraphScope, span: Span) -> None:
    """Refuse roles that the instance does not have, or does not train."""
    parameters = [p for node in scope.nodes() for p in node.parameters]
    roles = dict.fromkeys(p.role for p in parameters if p.trainable)
    for role in step.own:
        if role not in roles:
            why = "is not trained" if any(p.role == role for p in parameters) else "is none"
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{step.name}` has no parameters `{role}`",
                span,
                f"`own = {role}`, which {why}",
                f"any of {', '.join(f'`{r}`' for r in roles)}" if roles else "an instance with parameters",
            )


def repeat(interpreter: Interpreter, flowing: Flowing, expr: tree.Binary, environment: Environment) -> Flowing:
    """`flowing -> step * n`: n instances, each evaluated anew with its turn as `index`."""
    n = _times(interpreter, expr.right, environment)
    if isinstance(n, Invalid):
        return INVALID
    builder = interpreter.builder
    with builder.enter("repeat", "", expr.span):
        for i in range(n):
            turn = Environment(environment.frame.turn(i), environment.owner, environment)
            with builder.enter("turn", "", expr.left.span):
                flowing = interpreter.send(flowing, expr.left, turn)
    return flowing


def parallel(interpreter: Interpreter, flowing: Flowing, expr: tree.WithBlock, environment: Environment) -> Flowing:
    """`parallel(n, join = sum | concat | mean | delta) { … }`: n instances on one input."""
    _, arguments, block = call_parts(expr)
    given = {a.name or ("n", "join")[min(i, 1)]: a.value for i, a in enumerate(arguments)}
    join = given.get("join")
    how = join.id if isinstance(join, tree.Name) else "sum" if join is None else ""
    if "n" not in given or len(given) != len(arguments) or given.keys() - {"n", "join"} or block is None:
        raise Fault(codes.WRONG_ARGUMENTS, "`parallel` takes a number and a join", expr.span, expected=_PARALLEL)
    if how not in ("sum", "concat", "mean", "delta"):
        raise Fault(
            codes.WRONG_ARGUMENTS,
            "`parallel` cannot join in this way",
            join.span if join else expr.span,
            expected=_PARALLEL,
        )
    n = _times(interpreter, given["n"], environment)
    if isinstance(n, Invalid) or isinstance(flowing, Invalid):
        return INVALID
    if flowing is None:
        return None
    if n == 0:
        raise Fault(codes.NEGATIVE_REPEAT, "`parallel` of nothing", given["n"].span, "0", "1 or more")
    results: list[Tensor] = []
    builder = interpreter.builder
    with builder.enter("repeat", "parallel", expr.span):
        for i in range(n):
            turn = Environment(environment.frame.turn(i), environment.owner, environment)
            with builder.enter("turn", "", block.span):
                result = run_block(interpreter, block, flowing, turn)
            if isinstance(result, Invalid):
                return INVALID
            results.append(one_tensor(result, "`parallel`", block.span))
    return _join(interpreter, how, results, flowing, expr.span)


_PARALLEL = "`parallel(n, join = sum | concat | mean | delta) { … }`"


_JOINS = {entry.name: entry for entry in (CONCAT, MEAN)}


def _join(interpreter: Interpreter, how: str, results: list[Tensor], flowing: Flowing, span: Span) -> Tensor | Invalid:
    if how in _JOINS:
        return add_node(interpreter, _JOINS[how], {}, results, span)
    total: Tensor | Invalid
    if how == "sum":
        total, rest = results[0], results[1:]
    else:
        start = one_tensor(flowing, "`parallel`", span)
        total, rest = start, []
        for result in results:
            change = add_node(interpreter, SUB, {}, (result, start), span)
            rest.append(change)
    for result in rest:
        total = add_node(interpreter, ADD, {}, (total, result), span)
    return total


def _times(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> int | Invalid:
    value = interpreter.evaluate(expr, environment)
    if isinstance(value, Invalid):
        return INVALID
    if isinstance(value, Deferred):
        raise Fault(
            codes.COUNT_IN_SHAPE,
            "a number of repeats cannot depend on `count` or `latents`",
            expr.span,
            expected="a number that is known before everything is placed",
        )
    if not arithmetic.is_number(value):
        help = "write the step first: `step * n`" if isinstance(value, STEPS) else ""
        message = "a step is repeated a whole number of times"
        raise Fault(codes.WRONG_KIND, message, expr.span, describe(value), "a whole number", help)
    n = arithmetic.as_integer(value, expr.span, "the number of repeats")
    if n < 0:
        raise Fault(codes.NEGATIVE_REPEAT, "a negative number of repeats", expr.span, str(n), "0 or more")
    if n > MOST_REPEATS:
        raise Fault(
            limits.REPEATED_TOO_OFTEN,
            "repeated too often",
            expr.span,
            f"{n:,} times",
            f"at most {MOST_REPEATS:,}",
        )
    return n
