"""Arguments of operations: matched to declarations, evaluated as their types say, with defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Operation, Required
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.program import WORDS
from hvdsl.compiler.elaboration.values import (
    INVALID,
    STEPS,
    Deferred,
    Distribution,
    Drawn,
    Invalid,
    Step,
    Tensor,
    Unshaped,
    Value,
)
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span

_OPERANDS = (ArgumentType.TENSOR, ArgumentType.DISTRIBUTION)


@dataclass(slots=True)
class Bound:
    """The arguments of one application."""

    args: dict[str, Literal] = field(default_factory=dict)
    operands: list[Tensor | Distribution | Unshaped] = field(default_factory=list)
    steps: dict[str, tuple[Step, tree.Expr]] = field(default_factory=dict)
    invalid: bool = False
    stated: frozenset[str] = frozenset()  # what the text gives, at the call or by a `default`


def call_parts(call: tree.Expr) -> tuple[tree.Expr, tuple[tree.Argument, ...], tree.Block | None]:
    """Take `f(a, b) { … }` apart: what is called, its arguments, its block."""
    head, block = (call.head, call.block) if isinstance(call, tree.WithBlock) else (call, None)
    if isinstance(head, tree.Call):
        return head.function, head.arguments, block
    return head, (), block


def bind(interpreter: Interpreter, operation: Operation, call: tree.Expr, environment: Environment) -> Bound:
    """Evaluate the arguments of a call of an operation, in the order of their declaration.

    Raises:
        Fault: for unknown, missing, doubled or surplus arguments, and for values of the wrong kind.
    """
    given = _match(operation, call)
    defaults = _defaults(interpreter, operation.name, environment)
    bound = Bound(stated=frozenset({*given, *defaults}))
    for argument in operation.arguments:
        if argument.name in given:
            exprs = given[argument.name]
            if argument.many:
                values = [_one(interpreter, argument, e, environment, bound) for e in exprs]
                if argument.type not in _OPERANDS:
                    bound.args[argument.name] = tuple(v for v in values if not isinstance(v, Invalid))
            else:
                _store(bound, argument, _one(interpreter, argument, exprs[0], environment, bound))
            continue
        if argument.name in defaults:
            setting, where = defaults[argument.name]
            _store(bound, argument, _one(interpreter, argument, setting.value, where, bound))
        elif isinstance(argument.default, Required):
            if not argument.many:
                raise Fault(
                    codes.WRONG_ARGUMENTS,
                    f"`{operation.name}` needs `{argument.name}`",
                    call.span,
                    expected=argument.doc or f"`{signature(operation)}`",
                    help=f"`{signature(operation)}`",
                )
            if argument.type not in _OPERANDS:
                bound.args[argument.name] = ()
        elif argument.type not in _OPERANDS and argument.type is not ArgumentType.STEP:
            bound.args[argument.name] = argument.default
    return bound


def signature(operation: Operation) -> str:
    """An operation with its arguments, as a call would name them."""
    parts = []
    for a in operation.arguments:
        if a.many:
            parts.append(f"{a.name}…")
        elif isinstance(a.default, Required):
            parts.append(a.name)
        else:
            parts.append(f"{a.name} = {arithmetic.describe(a.default)}")
    return f"{operation.name}({', '.join(parts)})"


def _match(operation: Operation, call: tree.Expr) -> dict[str, list[tree.Expr]]:
    """Say which expression is which argument's."""
    _, arguments, _ = call_parts(call)
    declared = {a.name: a for a in operation.arguments}
    given: dict[str, list[tree.Expr]] = {}
    positional = iter(operation.arguments)
    rest: Argument | None = None
    for argument in arguments:
        if argument.name is None:
            rest = rest or next(positional, None)
            if rest is None:
                raise Fault(
                    codes.WRONG_ARGUMENTS,
                    f"`{operation.name}` takes fewer arguments",
                    argument.span,
                    expected=f"`{signature(operation)}`",
                )
            given.setdefault(rest.name, []).append(argument.value)
            rest = rest if rest.many else None
            continue
        if argument.name not in declared:
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{operation.name}` has no argument `{argument.name}`",
                argument.span,
                expected=f"`{signature(operation)}`",
                help=did_you_mean(argument.name, declared),
            )
        if argument.name in given:
            raise Fault(codes.WRONG_ARGUMENTS, f"`{operation.name}` is given `{argument.name}` twice", argument.span)
        given[argument.name] = [argument.value]
    return given


def _defaults(
    interpreter: Interpreter, operation: str, environment: Environment
) -> dict[str, tuple[tree.Setting, Environment]]:
    """Collect what `default`s say, by argument: this text's, then the section's, then the top level's."""
    found: dict[str, tuple[tree.Setting, Environment]] = {}
    for setting in interpreter.program.defaults.get(operation, ()):
        found[setting.key.id] = (setting, Environment(environment.frame, environment.owner))
    if interpreter.section_defaults is not None:
        found.update(interpreter.section_defaults.default(operation))
    found.update(environment.default(operation))
    return found


def _store(bound: Bound, argument: Argument, value: Literal | Invalid | None) -> None:
    if argument.type is ArgumentType.STEP or isinstance(value, Invalid):
        return
    if argument.type in _OPERANDS and value is None:
        return
    bound.args[argument.name] = value


def _one(
    interpreter: Interpreter, argument: Argument, expr: tree.Expr, environment: Environment, bound: Bound
) -> Literal | Invalid:
    """Evaluate one argument; what is no literal goes to `bound` itself."""
    kind = argument.type
    if argument.words:
        word = _word(interpreter, argument, expr, environment)
        if word is not None:
            return word
    if kind in _OPERANDS:
        _operand(interpreter, argument, expr, environment, bound)
        return None
    value = interpreter.evaluate(expr, environment)
    if isinstance(value, Invalid):
        bound.invalid = True
        return value
    if kind is ArgumentType.STEP:
        if isinstance(value, STEPS):
            bound.steps[argument.name] = (value, expr)
        elif value is not None:
            raise _wrong(argument, expr.span, value, "a step")
        return None
    return literal_argument(argument, value, expr.span)


def _operand(
    interpreter: Interpreter, argument: Argument, expr: tree.Expr, environment: Environment, bound: Bound
) -> None:
    value = interpreter.tensor(expr, environment)
    if isinstance(value, Invalid):
        bound.invalid = True
    elif value is None:
        if not argument.many and argument.type is ArgumentType.DISTRIBUTION:
            raise _wrong(argument, expr.span, value, "a distribution")
    elif argument.type is ArgumentType.DISTRIBUTION:
        if isinstance(value, Drawn):
            value = value.distribution
        if not isinstance(value, Distribution):
            raise _wrong(argument, expr.span, value, "a distribution")
        bound.operands.append(value)
    else:
        if isinstance(value, Drawn):
            value = value.tensor
        if not isinstance(value, Tensor | Unshaped):
            raise _wrong(argument, expr.span, value, "a tensor")
        bound.operands.append(value)


def _word(interpreter: Interpreter, argument: Argument, expr: tree.Expr, environment: Environment) -> Literal | None:
    """Return the term, if the argument is one of its own words: these come before names."""
    match expr:
        case tree.Name(id=name) if name in argument.words:
            return None if name == "none" else Term(name)
        case tree.Call(function=tree.Name(id=name)) if name in argument.words:
            return term(interpreter, name, expr, environment)
    return None


def term(interpreter: Interpreter, name: str, call: tree.Call, environment: Environment) -> Term:
    """Evaluate a call of a word, such as `scaled(1 / sqrt(count))` or `causal(before, mirror = yes)`."""
    args: list[Literal] = []
    options: list[tuple[str, Literal]] = []
    for argument in call.arguments:
        value = _inner(interpreter, argument.value, environment)
        if argument.name is None:
            args.append(value)
        else:
            options.append((argument.name, value))
    return Term(name, tuple(args), tuple(options))


def _inner(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Literal:
    match expr:
        case tree.Name(id=name) if name in WORDS and environment.find(name) is None:
            return name
        case tree.Call(function=tree.Name(id=name)) if name in WORDS:
            return term(interpreter, name, expr, environment)
    value = interpreter.evaluate(expr, environment)
    plain = static(value)
    if isinstance(plain, Invalid):
        raise Fault(codes.WRONG_KIND, "this is not a number or word", expr.span, kind_of(value), "a number or a word")
    return plain.name if isinstance(plain, Term) and not (plain.args or plain.options) else plain


def static(value: Value) -> Literal | Invalid:
    """Return a value as a literal, or INVALID where it is none."""
    if isinstance(value, list | tuple):
        items = [static(v) for v in value]
        return (
            INVALID
            if any(isinstance(i, Invalid) for i in items)
            else tuple(i for i in items if not isinstance(i, Invalid))
        )
    if value is None or isinstance(value, bool | int | float | str | Term):
        return value
    return INVALID


def kind_of(value: object) -> str:
    """What a value is, in words, for messages."""
    if isinstance(value, Tensor):
        return f"a tensor of {'x'.join(map(str, value.shape))}"
    if isinstance(value, Distribution | Drawn):
        return "a distribution"
    if isinstance(value, STEPS):
        return "a step"
    if isinstance(value, tree.Map):
        return "a map"
    if isinstance(value, Unshaped):
        return "a learned map that has no channels yet"
    if isinstance(value, tuple) and any(isinstance(v, Tensor) for v in value):
        return f"a tuple of {len(value)} tensors"
    if isinstance(value, Deferred):
        return "a number made of `count` or `latents`"
    return arithmetic.describe(value)


def _wrong(argument: Argument, span: Span, value: object, expected: str) -> Fault:
    if argument.words:
        expected += ", " + ", ".join(f"`{w}`" for w in argument.words)
    return Fault(codes.WRONG_KIND, f"`{argument.name}` takes {expected}", span, kind_of(value), expected, argument.doc)


def literal_argument(argument: Argument, value: Value, span: Span) -> Literal:
    """Check a value against an argument's type, and bring it into its form.

    Raises:
        Fault: if the value is of another kind, or is made of `count` where only a scale may be.
    """
    if argument.type is not ArgumentType.NUMBER and isinstance(value, Deferred):
        raise Fault(
            codes.COUNT_IN_SHAPE,
            f"`{argument.name}` cannot depend on `count` or `latents`",
            span,
            kind_of(value),
            "a number that is known before everything is placed",
            "`count` and `latents` are for scales and initial values",
        )
    if value is None and (argument.default is None or "none" in argument.words):
        return None
    match argument.type:
        case ArgumentType.INTEGER:
            if arithmetic.is_number(value):
                return arithmetic.integer(value, span, f"`{argument.name}`")
        case ArgumentType.NUMBER:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
        case ArgumentType.SWITCH:
            if isinstance(value, bool):
                return value
        case ArgumentType.KERNEL:
            if arithmetic.is_number(value):
                k = arithmetic.integer(value, span, f"`{argument.name}`")
                return (k, k)
            if isinstance(value, tuple) and len(value) == 2:
                return tuple(arithmetic.integer(v, span, f"`{argument.name}`") for v in value)
        case ArgumentType.SHAPE:
            if isinstance(value, tuple):
                return tuple(arithmetic.integer(v, span, f"`{argument.name}`") for v in value)
        case ArgumentType.WORD:
            plain = static(value)
            if isinstance(plain, Term) and plain.name in argument.words:
                return plain
            if isinstance(plain, tuple) or (plain is None and argument.default is None):
                return plain
    raise _wrong(argument, span, value, _TYPES[argument.type])


_TYPES: Mapping[ArgumentType, str] = {
    ArgumentType.INTEGER: "a whole number",
    ArgumentType.NUMBER: "a number",
    ArgumentType.SWITCH: "`yes` or `no`",
    ArgumentType.KERNEL: "a kernel such as `3`, `3x3` or `(3, 1)`",
    ArgumentType.SHAPE: "a shape such as `1x28x28`",
    ArgumentType.WORD: "one of its words",
}


def check_default(operations: Mapping[str, Operation], default: tree.Default) -> Sequence[Fault]:
    """Return what is wrong with the names in a `default`."""
    operation = operations.get(default.operation.id)
    if operation is None:
        return [
            Fault(
                name_codes.UNKNOWN_NAME,
                f"there is no operation `{default.operation.id}`",
                default.operation.span,
                expected="an operation or distribution",
                help=did_you_mean(default.operation.id, operations),
            )
        ]
    declared = [a.name for a in operation.arguments]
    return [
        Fault(
            codes.WRONG_ARGUMENTS,
            f"`{operation.name}` has no argument `{s.key.id}`",
            s.key.span,
            expected=f"`{signature(operation)}`",
            help=did_you_mean(s.key.id, declared),
        )
        for s in default.settings
        if s.key.id not in declared
    ]
