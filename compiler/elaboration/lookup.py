"""What a bare name is worth: bindings, top-level names, context names, words."""

from __future__ import annotations

from hvdsl.compiler import graph
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.structure import GIVEN
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import static, term
from hvdsl.compiler.elaboration.environment import CONTEXT_NAMES, Environment
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.placing import source
from hvdsl.compiler.elaboration.program import PUBLIC_OPERATIONS, RESERVED, WORDS
from hvdsl.compiler.elaboration.values import (
    INVALID,
    Deferred,
    Invalid,
    RecipeStep,
    SharedStep,
    TapStep,
    Tensor,
    Value,
    first,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.constants import KEYWORDS, circular
from hvdsl.compiler.graph import Literal
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def lookup(interpreter: Interpreter, expr: tree.Name, environment: Environment) -> Value:
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
        return let_value(interpreter, expr, environment)
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
    known = environment.known() | interpreter.program.known() | PUBLIC_OPERATIONS | {"skip", "tap", "parallel"}
    known |= {*CONTEXT_NAMES, *arithmetic.FUNCTIONS} - {"v"}
    near = did_you_mean(name.id, known)
    return Fault(
        name_codes.UNKNOWN_NAME,
        f"nothing is named `{name.id}` here",
        name.span,
        expected="a name of this recipe, the top level or an operation",
        help=near if near.startswith("did you mean") else "",
    )


def let_value(interpreter: Interpreter, expr: tree.Name, environment: Environment) -> Value:
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
        raise Fault(name_codes.NO_CONTEXT, "the data has no classes", span, expected="`classes = n` in `data`")
    if interpreter.label_tensor is None:
        shape = (interpreter.program.classes, 1, 1)
        args: dict[str, Literal] = {"name": "label", "shape": shape, "classes": shape[0], "source": "field"}
        node = interpreter.builder.node(GIVEN, args, (), (shape,), span)
        interpreter.label_tensor = Tensor(graph.Edge(node.index), shape)
    return interpreter.label_tensor


def check_name(name: tree.Name) -> None:
    """Refuse to define what the language has already defined.

    Raises:
        Fault: for keywords, operations and context names.
    """
    kind = (
        "a keyword"
        if name.id in RESERVED and name.id != "x"
        else "an operation"
        if name.id in PUBLIC_OPERATIONS
        else "a context name"
        if name.id in CONTEXT_NAMES
        else ""
    )
    if kind:
        raise Fault(
            name_codes.RESERVED_NAME,
            f"`{name.id}` is {kind}, and cannot be redefined",
            name.span,
            expected="a name of your own",
        )
