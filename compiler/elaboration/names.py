"""What names and calls are worth: bindings, context names, `let`s, recipes, operations, taps, functions, words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hvdsl.compiler import graph
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.structure import GIVEN
from hvdsl.compiler.catalogue.table import Argument, ArgumentType
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import static
from hvdsl.compiler.elaboration.environment import CONTEXT_NAMES, PUBLIC_OPERATIONS, RESERVED, Environment, TopLevel
from hvdsl.compiler.elaboration.interpreter import Interpreter, call_parts, flowing
from hvdsl.compiler.elaboration.nodes import operation_value
from hvdsl.compiler.elaboration.values import (
    ExpressionStep,
    NamedStep,
    OperationStep,
    RecipeStep,
    SharedInstance,
    SharedStep,
    TapStep,
    Tensor,
    Value,
    first,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import INVALID, Deferred, Invalid, describe
from hvdsl.compiler.evaluate.expressions import circular, unknown
from hvdsl.compiler.graph import Literal, Named, Term
from hvdsl.compiler.settings import LABEL
from hvdsl.compiler.suggest import did_you_mean, habit
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Fault
from hvdsl.grammar.source import Span


def lookup(interpreter: Interpreter, name: tree.Name, environment: Environment, wanted: Argument | None) -> Value:
    """Return what a bare name is worth: the nearest binding, then what the top level and the language define."""
    word = name.id
    where = environment.find(word)
    if where is not None:
        return where.names[word]
    if word in interpreter.program.conditions:
        return field_tensor(interpreter, word, name.span)
    if word in CONTEXT_NAMES:
        return context_name(interpreter, word, environment, name.span)
    program = interpreter.program
    if word in program.lets:
        return let_value(interpreter, name, environment, wanted)
    if word in program.recipes:
        return RecipeStep(program.recipes[word], name, environment)
    if word in interpreter.shared:
        return SharedStep(word, interpreter.shared[word])
    if word == "tap":
        return TapStep("")
    if word == "skip":
        return interpreter.skip("", environment.owner, environment, name.span)
    if word in PUBLIC_OPERATIONS:
        if wanted is not None and wanted.type is ArgumentType.WORD:
            raise no_word(name, wanted)
        return operation_value(interpreter, OPERATIONS[word], name, environment)
    if wanted is not None and word in wanted.words:
        return interpreter.word(word, name, environment, wanted)
    if word == arithmetic.PI:
        return math.pi
    raise unknown_name(interpreter, name, environment, wanted)


def unknown_name(interpreter: Interpreter, name: tree.Name, environment: Environment, wanted: Argument | None) -> Fault:
    """Say that a name means nothing here, and which one is near."""
    known = environment.known() | interpreter.program.known() | PUBLIC_OPERATIONS | {"skip", "tap", "parallel"}
    known |= {*interpreter.program.conditions, *CONTEXT_NAMES, *arithmetic.FUNCTIONS}
    later = environment.bound_later(name.id, name.span.start)
    if later is not None:
        return Fault(
            name_codes.UNKNOWN_NAME,
            f"`{name.id}` is not bound yet",
            name.span,
            f"`{name.id}`, which line {later.span.line} binds",
            "a name that a line above binds",
            f"move line {later.span.line} up, or this one down",
        )
    return unknown(name, known, wanted, "a name of this recipe, the top level or an operation")


def no_word(name: tree.Name, wanted: Argument) -> Fault:
    """Say that an operation stands where an argument takes words."""
    words = ", ".join(f"`{word}`" for word in wanted.words)
    message = f"`{name.id}` is an operation, and no word of `{wanted.name}`"
    help = habit(name.id, wanted.name) or did_you_mean(name.id, wanted.words)
    return Fault(name_codes.UNKNOWN_NAME, message, name.span, f"`{name.id}`", f"one of {words}", help)


def let_value(interpreter: Interpreter, expr: tree.Name, environment: Environment, wanted: Argument | None) -> Value:
    """Evaluate a top-level `let` with the context names of the place of use; once for each place.

    Its whole value may be a word of the argument that it is the whole value of, and is kept for those words alone.
    """
    frame, name = environment.frame, expr.id
    words = wanted.words if wanted is not None else ()
    value = frame.lets.get(name, frame.lets.get((name, words), _ABSENT))
    if value is _OPEN:
        names = [n for n, v in frame.lets.items() if v is _OPEN and isinstance(n, str)]
        raise circular([*names[names.index(name) :], name], expr)
    if value is not _ABSENT:
        return value
    frame.lets[name] = _OPEN
    try:
        inner = Environment(frame, environment.owner)
        value = interpreter.evaluate(interpreter.program.lets[name].value, inner, wanted)
    except Fault:
        frame.lets[name] = INVALID  # reported; every other use of it is silent
        raise
    if type(value) is int:
        value = Named(value, name)
    if isinstance(value, Term):
        del frame.lets[name]
        frame.lets[name, words] = value
    else:
        frame.lets[name] = value
    return value


_ABSENT = "\x00absent"
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
        return INVALID if interpreter.program.logits is None else interpreter.program.logits
    if name == LABEL:
        return field_tensor(interpreter, name, span)
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


def field_tensor(interpreter: Interpreter, name: str, span: Span) -> Tensor:
    """Return the tensor of a field beside the image; its node is made at first use.

    Raises:
        Fault: the data has no such field.
    """
    fields = interpreter.program.conditions
    if name not in fields:
        raise Fault(name_codes.NO_CONTEXT, "the data has no classes", span, expected="`classes = n` in `data`")
    if name not in interpreter.conditions:
        field = fields[name]
        shape = (field.channels, *field.shape[1:])
        place = list(fields).index(name)
        args: dict[str, Literal] = {
            "name": name,
            "shape": shape,
            "classes": field.classes,
            "source": "field",
            "place": place,
            "input": None if field.classes is not None or field.input == "v" else field.input,
            "drop": float(field.drop),
        }
        node = interpreter.builder.entry(GIVEN, args, shape, span)
        interpreter.conditions[name] = Tensor(graph.Edge(node.index), shape)
    return interpreter.conditions[name]


def check_condition_names(spec: tree.Spec, program: TopLevel, diagnostics: Diagnostics) -> None:
    """Refuse fields of `data` whose names the language or the spec's top level has given away."""
    settings = (s for i in spec.items if isinstance(i, tree.SettingsNode) and i.kind == "data" for s in i.settings)
    for setting in settings:
        if isinstance(setting, tree.ConditionNode) and setting.key.id != LABEL:
            with diagnostics.collecting():
                check_name(setting.key)
            if setting.key.id == "x":
                diagnostics.add(
                    Diagnostic(
                        name_codes.RESERVED_NAME,
                        "`x` is what flows, and no name of a field",
                        setting.key.span,
                        expected="a name of your own",
                    )
                )
    for item in spec.items:
        if (
            isinstance(item, tree.Let | tree.RecipeNode | tree.Shared | tree.Prior)
            and item.name.id in program.conditions
        ):
            field = item.name
            diagnostics.add(
                Diagnostic(
                    name_codes.RESERVED_NAME,
                    f"`{field.id}` is a field of `data`, and cannot be defined again",
                    field.span,
                    expected="a name of your own",
                    help="give the field or this another name",
                )
            )


def check_name(name: tree.Name, *, local: bool = False) -> None:
    """Refuse to define what the language has already defined; a `local` may hide a field, `label` among them.

    Raises:
        Fault: for keywords, operations and context names.
    """
    kind = (
        "a keyword"
        if name.id in RESERVED and name.id != "x"
        else "an operation"
        if name.id in PUBLIC_OPERATIONS
        else "a context name"
        if name.id in CONTEXT_NAMES and not (local and name.id == LABEL)
        else ""
    )
    if kind:
        raise Fault(
            name_codes.RESERVED_NAME,
            f"`{name.id}` is {kind}, and cannot be redefined",
            name.span,
            expected="a name of your own",
            help="write `tap(name) = …`, or `… -> tap` for what passes" if name.id == "tap" else "",
        )


def value_of_call(
    interpreter: Interpreter, expr: tree.Call | tree.WithBlock, environment: Environment, wanted: Argument | None
) -> Value:
    """Return what a call is worth: a recipe or operation with arguments, a tap, a function, a word."""
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
        return _call_value(
            interpreter, let_value(interpreter, function, environment, wanted), expr, function, environment
        )
    if name in program.recipes:
        _no_block(block, f"`{name}`")
        return RecipeStep(program.recipes[name], expr, environment)
    if name in interpreter.shared:
        return _call_shared(interpreter.shared[name], arguments)
    if name in PUBLIC_OPERATIONS:
        if wanted is not None and wanted.type is ArgumentType.WORD:
            raise no_word(function, wanted)
        if block is not None and not OPERATIONS[name].block:
            _no_block(block, f"`{name}`")
        return operation_value(interpreter, OPERATIONS[name], expr, environment)
    if name == "parallel":
        return ExpressionStep(expr, environment)
    if isinstance(expr, tree.Call):
        if name in arithmetic.FUNCTIONS:
            return interpreter.calculate(name, expr, environment)
        if wanted is not None and name in wanted.words:
            return interpreter.word(name, expr, environment, wanted)
    raise unknown_name(interpreter, function, environment, wanted)


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
            describe(value),
            "a recipe or operation",
        )
    return NamedStep(value.name, step) if isinstance(value, NamedStep) else step


def tap_of_call(arguments: Sequence[tree.ArgumentNode], call: tree.Expr) -> str:
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
    arguments: Sequence[tree.ArgumentNode],
    environment: Environment,
) -> Value:
    tapped = tap_of_call(arguments, expr)
    if name == "tap":
        return TapStep(tapped)
    return interpreter.skip(tapped, environment.owner, environment, expr.span)


def _measure(
    interpreter: Interpreter,
    name: str,
    expr: tree.Expr,
    arguments: Sequence[tree.ArgumentNode],
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


def _call_shared(instance: SharedInstance, arguments: Sequence[tree.ArgumentNode]) -> SharedStep:
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
