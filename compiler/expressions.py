"""What an expression is worth: numbers, words, tensors, distributions and steps."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler import arithmetic, graph
from hvdsl.compiler.application import add_node, chosen, materialise, source
from hvdsl.compiler.arguments import call_parts, kind_of, static, term
from hvdsl.compiler.codes import names as name_codes
from hvdsl.compiler.codes import values as codes
from hvdsl.compiler.constants import KEYWORDS, circular, item_of, no_such_item, number_of
from hvdsl.compiler.environment import CONTEXT_NAMES, Environment
from hvdsl.compiler.faults import Fault
from hvdsl.compiler.interpreter import Interpreter
from hvdsl.compiler.operations import OPERATIONS
from hvdsl.compiler.program import PUBLIC_OPERATIONS, WORDS
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.compiler.values import (
    INVALID,
    STEPS,
    BlockStep,
    Deferred,
    Distribution,
    Drawn,
    ExpressionStep,
    Flowing,
    Invalid,
    NamedStep,
    OperationStep,
    RecipeStep,
    SharedStep,
    TapStep,
    Tensor,
    Unshaped,
    Value,
    deferred_binary,
    first,
)
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def evaluate(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Value:
    """Evaluate to a value of any kind; a flow that starts with a step stays a step."""
    match expr:
        case tree.Number():
            return number_of(expr)
        case tree.Name():
            return _name(interpreter, expr, environment)
        case tree.Dim():
            return expr.sizes
        case tree.Call() | tree.WithBlock():
            return _call(interpreter, expr, environment)
        case tree.Flow():
            return _flow(interpreter, expr, environment)
        case tree.Binary():
            return _binary(interpreter, expr, environment)
        case tree.Unary():
            return _unary(interpreter, expr, environment)
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
    raise Fault(codes.WRONG_KIND, "only tensors flow", span, kind_of(value), "a tensor or a tuple of tensors")


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


# -- names ------------------------------------------------------------------------------------------------


def _name(interpreter: Interpreter, expr: tree.Name, environment: Environment) -> Value:
    name = expr.id
    if name in KEYWORDS:
        return KEYWORDS[name]
    where = environment.find(name)
    if where is not None:
        return where.names[name]
    if name in CONTEXT_NAMES:
        return context_name(interpreter, name, environment, expr.span)
    program = interpreter.program
    if name in program.lets:
        return _let(interpreter, expr, environment)
    if name in program.recipes:
        return RecipeStep(program.recipes[name], expr, environment)
    if name in interpreter.shared:
        return SharedStep(name, interpreter.shared[name])
    if name == "tap":
        return TapStep("")
    if name == "skip":
        return interpreter.skip("", environment.owner, environment, expr.span)
    if name in PUBLIC_OPERATIONS:
        return source(interpreter, OPERATIONS[name], expr, environment)
    if name in WORDS:
        return term(interpreter, name, tree.Call(expr, (), span=expr.span), environment)
    raise unknown(interpreter, expr, environment)


def unknown(interpreter: Interpreter, name: tree.Name, environment: Environment) -> Fault:
    """Say that a name means nothing here, and which one is near."""
    known = (
        environment.known() | interpreter.program.known() | PUBLIC_OPERATIONS | {"skip", "tap", "parallel"}
    )
    known |= {*CONTEXT_NAMES, *arithmetic.FUNCTIONS} - {"v"}
    near = did_you_mean(name.id, known)
    return Fault(
        name_codes.UNKNOWN_NAME,
        f"nothing is named `{name.id}` here",
        name.span,
        expected="a name of this recipe, the top level or an operation",
        help=near if near.startswith("did you mean") else "",
    )


def _let(interpreter: Interpreter, expr: tree.Name, environment: Environment) -> Value:
    """Evaluate a top-level `let` with the context names of the place of use; once for each place."""
    frame, name = environment.frame, expr.id
    if name in frame.lets:
        value = frame.lets[name]
        if value is _OPEN:
            names = [n for n, v in frame.lets.items() if v is _OPEN]
            raise circular([*names[names.index(name) :], name], expr)
        return value
    frame.lets[name] = _OPEN
    try:
        inner = Environment(frame, environment.owner)
        value = interpreter.evaluate(interpreter.program.lets[name].value, inner)
    except Fault:
        frame.lets[name] = INVALID  # reported; every other use of it is silent
        raise
    frame.lets[name] = value
    return value


_OPEN = "\x00open"  # a let that is being evaluated


def context_name(interpreter: Interpreter, name: str, environment: Environment, span: Span) -> Value:
    """Return what a context name says at a place.

    Raises:
        Fault: where it says nothing.
    """
    frame = environment.frame
    value: Value = None
    tensor = first(frame.entered)
    if name == "logits":
        return interpreter.program.logits
    if name == "label":
        return _label(interpreter, span)
    if name == "latents":
        value = Deferred(lambda totals: totals.latents)
    elif name == "count" and frame.recipe is not None:
        key = (frame.section, frame.recipe)
        value = Deferred(lambda totals: totals.counts[key])
    elif name == "index":
        value = frame.index
    elif name == "channels" and tensor:
        value = tensor.shape[0]
    elif name in ("res", "height", "width_px"):
        size = frame.label if frame.is_row and frame.label else tensor.shape[1:] if tensor else frame.label
        if frame.entered is INVALID and not frame.is_row:
            return INVALID
        if size is not None:
            value = square(size, span) if name == "res" else size[0 if name == "height" else 1]
    if value is None:
        if frame.entered is INVALID:
            return INVALID
        raise Fault(
            name_codes.NO_CONTEXT,
            f"`{name}` says nothing here",
            span,
            expected=_CONTEXT.get(name, "a place where something has flowed in"),
        )
    if frame.scope is not None and not isinstance(value, Invalid):
        plain = static(value)
        if not isinstance(plain, Invalid):
            frame.scope.constants.setdefault(name, plain)
    return value


_CONTEXT = {
    "index": "a recipe, or something repeated",
    "count": "a recipe",
    "v": "an expression of `data`",
}


def square(size: tuple[int, int], span: Span) -> int:
    """Return the one number that `res` of a square map is."""
    if size[0] != size[1]:
        raise Fault(
            codes.OBLONG,
            "`res` of an oblong map is two numbers",
            span,
            f"{size[0]}x{size[1]}",
            "a square map",
            "write `height` and `width_px`",
        )
    return size[0]


def _label(interpreter: Interpreter, span: Span) -> Tensor:
    if interpreter.program.classes is None:
        raise Fault(
            name_codes.NO_CONTEXT, "the data has no classes", span, expected="`classes = n` in `data`"
        )
    if interpreter.label_tensor is None:
        shape = (interpreter.program.classes, 1, 1)
        node = interpreter.builder.node("label", {"classes": interpreter.program.classes}, (), (shape,), span)
        interpreter.label_tensor = Tensor(graph.Value(node.index), shape)
    return interpreter.label_tensor


# -- calls ------------------------------------------------------------------------------------------------


def _call(interpreter: Interpreter, expr: tree.Call | tree.WithBlock, environment: Environment) -> Value:
    function, arguments, block = call_parts(expr)
    if not isinstance(function, tree.Name):
        raise Fault(
            codes.WRONG_KIND, "only a name can be called", function.span, expected="a recipe or operation"
        )
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
        return _call_value(interpreter, _let(interpreter, function, environment), expr, function, environment)
    if name in program.recipes:
        _no_block(block, f"`{name}`")
        return RecipeStep(program.recipes[name], expr, environment)
    if name in interpreter.shared:
        return _call_shared(interpreter, name, function, arguments)
    if name in PUBLIC_OPERATIONS:
        if block is not None and name not in ("residual", "iaf"):
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


def _call_shared(
    interpreter: Interpreter, name: str, function: tree.Name, arguments: Sequence[tree.Argument]
) -> SharedStep:
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
    return SharedStep(name, interpreter.shared[function.id], tuple(own))


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


# -- operators --------------------------------------------------------------------------------------------


def _unary(interpreter: Interpreter, expr: tree.Unary, environment: Environment) -> Value:
    value = interpreter.evaluate(expr.operand, environment)
    if isinstance(value, Invalid):
        return INVALID
    if expr.operator == "not":
        return not arithmetic.switch(value, expr.operand.span)
    if isinstance(value, Drawn):
        value = value.tensor
    if isinstance(value, Tensor):
        return add_node(interpreter, "neg", {}, (value,), expr.span)
    if isinstance(value, Deferred):
        return deferred_binary(lambda a, b: arithmetic.binary("-", a, b, expr.span), 0, value)
    return -arithmetic.number(value, expr.operand.span)


def _binary(interpreter: Interpreter, expr: tree.Binary, environment: Environment) -> Value:
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


def _tensors(
    interpreter: Interpreter, expr: tree.Binary, left: Value, right: Value, environment: Environment
) -> Value:
    """Arithmetic of which one side is a tensor: elementwise; `none` adds nothing; a step is applied to `x`."""
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
    name = {"+": "add", "-": "sub", "*": "mul", "/": "div"}[expr.operator]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return add_node(interpreter, name, {}, (a, b), expr.span)
    if isinstance(a, Tensor) and isinstance(b, int | float):
        return add_node(interpreter, f"{name}_number", {"number": b}, (a,), expr.span)
    if isinstance(b, Tensor) and isinstance(a, int | float):
        named = f"{name}_number" if name in ("add", "mul") else f"number_{name}"
        return add_node(interpreter, named, {"number": a}, (b,), expr.span)
    raise TypeError(f"neither {a!r} nor {b!r} is a tensor")


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
