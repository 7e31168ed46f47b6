"""What steps do with what flows into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hvdsl.compiler import arithmetic
from hvdsl.compiler.arguments import Bound, bind, call_parts, kind_of, static
from hvdsl.compiler.builder import Builder
from hvdsl.compiler.codes import limits
from hvdsl.compiler.codes import names as name_codes
from hvdsl.compiler.codes import shapes as shape_codes
from hvdsl.compiler.codes import values as codes
from hvdsl.compiler.environment import Environment, Frame, Owner
from hvdsl.compiler.faults import Fault
from hvdsl.compiler.graph import Literal, Shape
from hvdsl.compiler.interpreter import Interpreter
from hvdsl.compiler.operations import OPERATIONS
from hvdsl.compiler.operations.table import Kind, Operation, OperationError
from hvdsl.compiler.values import (
    INVALID,
    STEPS,
    BlockStep,
    Deferred,
    Distribution,
    ExpressionStep,
    Flowing,
    Invalid,
    NamedStep,
    OperationStep,
    RecipeStep,
    SharedStep,
    Step,
    TapStep,
    Tensor,
    Unshaped,
    Value,
    show,
)
from hvdsl.grammar import tree
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
            return interpreter.send(flowing, chosen(interpreter, expr, environment), environment)
        case tree.Binary(operator="*"):
            return _repeat(interpreter, flowing, expr, environment)
        case tree.WithBlock(head=tree.Name(id="parallel") | tree.Call(function=tree.Name(id="parallel"))):
            return _parallel(interpreter, flowing, expr, environment)
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
            kind_of(value),
            "a step: an operation, a recipe or a block",
            _not_a_step(expr),
        )
    return interpreter.apply(value, flowing, expr.span)


def chosen(interpreter: Interpreter, expr: tree.Choose, environment: Environment) -> tree.Expr:
    """Return the branch that a conditional takes; the other is not elaborated."""
    test = interpreter.evaluate(expr.test, environment)
    return expr.then if arithmetic.switch(test, expr.test.span) else expr.other


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
            return _apply_recipe(interpreter, step, flowing)
        case BlockStep():
            return run_block(interpreter, step.block, flowing, step.environment)
        case ExpressionStep():
            return interpreter.send(flowing, step.expr, step.environment)
        case NamedStep():
            with interpreter.builder.enter("part", step.name, span):
                return interpreter.apply(step.step, flowing, span)
        case TapStep():
            return tap(interpreter, step.name, flowing, span)
        case SharedStep():
            return _apply_shared(interpreter, step, flowing, span)


def run_block(
    interpreter: Interpreter, block: tree.Block, flowing: Flowing, environment: Environment
) -> Flowing:
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
    raise Fault(
        codes.WRONG_KIND, "the result is no tensor", span, kind_of(value), "a tensor or a tuple of tensors"
    )


# -- repeats ----------------------------------------------------------------------------------------------


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
        raise Fault(codes.WRONG_KIND, "a step is repeated a whole number of times", expr.span, kind_of(value))
    n = arithmetic.integer(value, expr.span, "the number of repeats")
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


def _repeat(
    interpreter: Interpreter, flowing: Flowing, expr: tree.Binary, environment: Environment
) -> Flowing:
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


def _parallel(
    interpreter: Interpreter, flowing: Flowing, expr: tree.WithBlock, environment: Environment
) -> Flowing:
    """`parallel(n, join = sum | concat | mean | delta) { … }`: n instances on one input."""
    _, arguments, block = call_parts(expr)
    given = {a.name or ("n", "join")[min(i, 1)]: a.value for i, a in enumerate(arguments)}
    join = given.get("join")
    how = join.id if isinstance(join, tree.Name) else "sum" if join is None else ""
    if "n" not in given or len(given) != len(arguments) or given.keys() - {"n", "join"} or block is None:
        raise Fault(
            codes.WRONG_ARGUMENTS, "`parallel` takes a number and a join", expr.span, expected=_PARALLEL
        )
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
            results.append(_one_tensor(result, "`parallel`", block.span))
    return _join(interpreter, how, results, flowing, expr.span)


_PARALLEL = "`parallel(n, join = sum | concat | mean | delta) { … }`"


def _join(
    interpreter: Interpreter, how: str, results: list[Tensor], flowing: Flowing, span: Span
) -> Tensor | Invalid:
    if how in ("concat", "mean"):
        return add_node(interpreter, how, {}, results, span)
    total: Tensor | Invalid
    if how == "sum":
        total, rest = results[0], results[1:]
    else:
        start = _one_tensor(flowing, "`parallel`", span)
        total, rest = start, []
        for result in results:
            change = add_node(interpreter, "sub", {}, (result, start), span)
            rest.append(change)
    for result in rest:
        total = add_node(interpreter, "add", {}, (total, result), span)
    return total


def _one_tensor(flowing: Flowing, what: str, span: Span) -> Tensor:
    if isinstance(flowing, Tensor):
        return flowing
    raise Fault(codes.WRONG_KIND, f"{what} takes one tensor", span, kind_of(flowing), "one tensor")


# -- operations -------------------------------------------------------------------------------------------


def source(
    interpreter: Interpreter, operation: Operation, call: tree.Expr, environment: Environment
) -> Value:
    """Return what a mention of an operation is: a step, or for sources, joins and distributions what they make."""
    if operation.kind is Kind.STEP:
        return OperationStep(operation, call, environment)
    if operation.name == "learned" and len(call_parts(call)[1]) < 2:
        return Unshaped(operation, call, environment)
    bound = bind(interpreter, operation, call, environment)
    if bound.invalid:
        return INVALID
    return _place(interpreter, operation, bound, call.span, environment)


def materialise(interpreter: Interpreter, waiting: Unshaped, shape: Shape | None, span: Span) -> Tensor:
    """Make the learned map of `learned(init)`, in the shape of what it is added to."""
    bound = bind(interpreter, waiting.operation, waiting.call, waiting.environment)
    if shape is not None:
        bound.args["channels"], bound.args["grid"] = shape[0], shape[1:]
    result = _place(interpreter, waiting.operation, bound, span, waiting.environment)
    if not isinstance(result, Tensor):
        raise TypeError("a learned map is a tensor")
    return result


def _place(
    interpreter: Interpreter, operation: Operation, bound: Bound, span: Span, environment: Environment
) -> Value:
    """Add the node of a source, join or distribution."""
    if operation.kind is Kind.JOIN and not bound.operands:
        return None  # all operands are absent
    if operation.name in ("concat", "mean") and len(bound.operands) == 1:
        only = bound.operands[0]
        return materialise(interpreter, only, None, span) if isinstance(only, Unshaped) else only
    if "grid" in bound.args and bound.args["grid"] is None and not bound.operands:
        bound.args["grid"] = environment.frame.label
    operands = [_settled(interpreter, o, None, span) for o in bound.operands]
    outputs = _outputs(interpreter, operation, bound.args, operands, span)
    if operation.kind is not Kind.DISTRIBUTION:
        return outputs[0]
    made = outputs[0]
    families = [o.family for o in bound.operands if isinstance(o, Distribution)]
    family = families[0] if families else _FAMILIES.get(operation.name, operation.name)
    return Distribution(made.value, made.shape, family, _classes(operation.name, bound.args, made.shape))


_FAMILIES = {"nearest_code": "codebook", "round_code": "finite_scalar"}


def _classes(name: str, args: Mapping[str, Literal], shape: Shape) -> int | None:
    if name == "codebook":
        codes = args["codes"]
        return codes if isinstance(codes, int) else None
    if name == "categorical":
        return shape[0]
    if name == "finite_scalar":
        levels = args["levels"]
        product = 1
        for n in levels if isinstance(levels, tuple) else ():
            product *= n if isinstance(n, int) else 1
        return product
    return None


def _settled(
    interpreter: Interpreter, operand: Tensor | Distribution | Unshaped, shape: Shape | None, span: Span
) -> Tensor:
    if isinstance(operand, Unshaped):
        return materialise(interpreter, operand, shape, operand.call.span)
    return Tensor(operand.value, operand.shape)


def add_node(
    interpreter: Interpreter, name: str, args: Mapping[str, Literal], inputs: Sequence[Tensor], span: Span
) -> Tensor:
    """Add a node of the operation `name`, which has one output."""
    return _outputs(interpreter, OPERATIONS[name], args, inputs, span)[0]


def _outputs(
    interpreter: Interpreter,
    operation: Operation,
    args: Mapping[str, Literal],
    inputs: Sequence[Tensor],
    span: Span,
) -> tuple[Tensor, ...]:
    try:
        return interpreter.builder.operation(operation, args, inputs, span)
    except OperationError as error:
        raise Fault(
            shape_codes.DOES_NOT_FIT,
            error.message,
            span,
            error.found,
            error.expected,
            error.help or _origins(interpreter.builder, inputs),
        ) from None


def _origins(builder: Builder, inputs: Sequence[Tensor]) -> str:
    """Say where each operand came from."""
    parts = []
    for tensor in inputs:
        node = builder.nodes[tensor.value.node]
        parts.append(
            f"{show(tensor.shape)} comes from `{node.op}` at {node.span.source.name}:{node.span.line}"
        )
    return "; ".join(parts)


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
    tensor = _one_tensor(flowing, f"`{operation.name}`", span)
    bound = bind(interpreter, operation, step.call, step.environment)
    if bound.invalid:
        return INVALID
    if operation.name == "residual":
        return _residual(interpreter, step, bound, tensor, span)
    if operation.name == "iaf":
        return _iaf(interpreter, step, bound, tensor, span)
    if operation.name == "add" and not bound.operands:
        return tensor  # `add(none)` changes nothing
    operands = [_settled(interpreter, o, tensor.shape, span) for o in bound.operands]
    outputs = _outputs(interpreter, operation, bound.args, (tensor, *operands), span)
    return outputs if operation.name in ("split", "chunk") else outputs[0]


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


def _residual(
    interpreter: Interpreter, step: OperationStep, bound: Bound, tensor: Tensor, span: Span
) -> Flowing:
    block = _body(step, span)
    shortcut: Flowing = tensor
    if "shortcut" in bound.steps:
        way, expr = bound.steps["shortcut"]
        with interpreter.builder.enter("part", "shortcut", expr.span):
            shortcut = interpreter.apply(way, tensor, expr.span)
    body = run_block(interpreter, block, tensor, step.environment)
    if isinstance(body, Invalid) or isinstance(shortcut, Invalid):
        return INVALID
    both = (_one_tensor(shortcut, "a shortcut", span), _one_tensor(body, "`residual`", block.span))
    return add_node(interpreter, "residual", bound.args, both, span)


def _iaf(interpreter: Interpreter, step: OperationStep, bound: Bound, tensor: Tensor, span: Span) -> Flowing:
    block = _body(step, span)
    body = run_block(interpreter, block, tensor, step.environment)
    parts = body if isinstance(body, tuple) else (body,)
    if any(isinstance(p, Invalid) for p in parts):
        return INVALID
    made = [_one_tensor(p, "`iaf`", block.span) for p in parts]
    return add_node(interpreter, "iaf", bound.args, (tensor, *made), span)


# -- recipes ----------------------------------------------------------------------------------------------


def _apply_recipe(interpreter: Interpreter, step: RecipeStep, flowing: Flowing) -> Flowing:
    recipe, caller, name = step.recipe, step.environment.frame, step.recipe.name.id
    key = (caller.section, name)
    index = interpreter.counts.get(key, 0)
    interpreter.counts[key] = index + 1
    given = _parameters(interpreter, step)
    with interpreter.builder.enter("recipe", name, step.call.span, numbered=True) as scope:
        frame = Frame(caller.section, caller.label, flowing, name, index, scope=scope)
        environment = Environment(frame, Owner(recipe.kind, name), names={"x": flowing})
        for parameter in recipe.parameters:
            own = parameter.name.id
            if own in given:
                value = given[own]
            elif parameter.default is not None:
                value = interpreter.evaluate(parameter.default, environment)
            else:
                continue
            environment.names[own] = _named(own, value)
            plain = static(value)
            if not isinstance(plain, Invalid):
                scope.constants[own] = plain
        interpreter.run(recipe.body, environment)
        return result_of(environment, recipe.name.span)


def _named(name: str, value: Value) -> Value:
    if not isinstance(value, STEPS):
        return value
    return NamedStep(name, value.step if isinstance(value, NamedStep) else value)


def _parameters(interpreter: Interpreter, step: RecipeStep) -> dict[str, Value]:
    """Evaluate the arguments of a call at the call; defaults are the callee's business."""
    recipe = step.recipe
    names = [p.name.id for p in recipe.parameters]
    _, arguments, _ = call_parts(step.call)
    given: dict[str, Value] = {}
    for position, argument in enumerate(arguments):
        if argument.name is None and position >= len(names):
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{recipe.name.id}` takes fewer arguments",
                argument.span,
                expected=_signature(recipe),
            )
        name = names[position] if argument.name is None else argument.name
        if name not in names:
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{recipe.name.id}` has no parameter `{name}`",
                argument.span,
                expected=_signature(recipe),
            )
        if name in given:
            raise Fault(codes.WRONG_ARGUMENTS, f"`{recipe.name.id}` is given `{name}` twice", argument.span)
        given[name] = interpreter.evaluate(argument.value, step.environment)
    for parameter in recipe.parameters:
        if parameter.default is None and parameter.name.id not in given:
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{recipe.name.id}` needs `{parameter.name.id}`",
                step.call.span,
                expected=_signature(recipe),
            )
    return given


def _signature(recipe: tree.Recipe) -> str:
    parts = [
        p.name.id if p.default is None else f"{p.name.id} = {p.default.span.text}" for p in recipe.parameters
    ]
    return f"`{recipe.name.id}({', '.join(parts)})`" if parts else f"`{recipe.name.id}` without arguments"


def _apply_shared(interpreter: Interpreter, step: SharedStep, flowing: Flowing, span: Span) -> Flowing:
    instance = step.instance
    later = instance.uses > 0
    instance.uses += 1
    with interpreter.builder.enter_shared(
        instance.name, instance.scope, instance.path, later, step.own, span
    ):
        return interpreter.send(flowing, instance.value, instance.environment)


# -- taps -------------------------------------------------------------------------------------------------


def tap(interpreter: Interpreter, name: str, flowing: Flowing, span: Span) -> Flowing:
    """`-> tap`: publish what passes."""
    if isinstance(flowing, Invalid) or flowing is None:
        return flowing
    if not interpreter.builder.path.startswith("encoder"):
        raise Fault(
            name_codes.MISPLACED,
            "only the encoder can tap",
            span,
            expected="`tap` in an encoder row, or in a recipe that the encoder places",
        )
    tensor = _one_tensor(flowing, "`tap`", span)
    published = add_node(interpreter, "tap", {"name": name}, (tensor,), span)
    interpreter.taps.publish(name, published, span)
    return published
