"""Arguments of operations: matched to declarations, evaluated as their types say, with defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Operation, Required
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.values import STEPS, DistributionValue, Drawn, Step, Tensor, Unshaped
from hvdsl.compiler.evaluate.arithmetic import INVALID, Invalid, describe
from hvdsl.compiler.evaluate.binding import OPERATION, Slot, accept, call_signature, expected, missing
from hvdsl.compiler.evaluate.expressions import own_word
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.record import Record, record

_OPERANDS = (ArgumentType.TENSOR, ArgumentType.DISTRIBUTION)


@dataclass(slots=True)
class Bound:
    """The arguments of one application."""

    args: dict[str, Literal] = field(default_factory=dict)
    operands: list[Tensor | DistributionValue | Unshaped] = field(default_factory=list)
    steps: dict[str, tuple[Step, tree.Expr]] = field(default_factory=dict)
    invalid: bool = False
    stated: frozenset[str] = frozenset()  # what the text gives, at the call or by a `default`


def bind(interpreter: Interpreter, operation: Operation, call: tree.Expr, environment: Environment) -> Bound:
    """Evaluate the arguments of a call of an operation, in the order of their declaration.

    Raises:
        Fault: for unknown, missing, doubled or surplus arguments, and for values of the wrong kind.
    """
    given: dict[str, list[tree.Expr]] = {}
    for argument, written in interpreter.matched(operation.name, operation.arguments, call):
        given.setdefault(argument.name, []).append(written.value)
    defaults = _defaults(interpreter, operation.name, environment)
    bound = Bound(stated=frozenset({*given, *defaults}))
    binding = _Binding(interpreter, operation.name, bound)
    for argument in operation.arguments:
        if argument.name in given:
            binding.store(argument, given[argument.name], environment)
        elif argument.name in defaults:
            setting, where = defaults[argument.name]
            binding.store(argument, [setting.value], where)
        elif isinstance(argument.default, Required):
            if not argument.many:
                raise missing(operation.name, argument, operation.arguments, call.span, OPERATION)
            if argument.type not in _OPERANDS:
                bound.args[argument.name] = ()
        elif argument.type not in _OPERANDS and argument.type is not ArgumentType.STEP:
            bound.args[argument.name] = argument.default
    return bound


def _defaults(
    interpreter: Interpreter, operation: str, environment: Environment
) -> dict[str, tuple[tree.Setting, Environment]]:
    """Collect what `default`s say, by argument: this text's, then the section's, then the top level's."""
    settings: dict[str, tuple[tree.Setting, Environment]] = {}
    program = interpreter.program.defaults.get(operation)
    if program is not None:
        top = Environment(environment.frame, environment.owner)
        settings = {setting.key.id: (setting, top) for setting in program}
    if interpreter.section_defaults is not None:
        settings.update(interpreter.section_defaults.default(operation))
    settings.update(environment.default(operation))
    return settings


_ONE_TENSOR = "mean and raw scale are the halves of one tensor: `normal(concat(m, s))`"


@record
class _Binding(Record):
    """Puts what arguments are worth where it belongs: literals, operands or steps."""

    interpreter: Interpreter
    operation: str
    bound: Bound

    def store(self, argument: Argument, exprs: Sequence[tree.Expr], environment: Environment) -> None:
        """Evaluate what is written for one argument; only one that takes many has several."""
        if argument.type in _OPERANDS:
            for expr in exprs:
                self._operand(argument, expr, environment)
            return
        if argument.many:
            values = [self._value(argument, expr, environment) for expr in exprs]
            self.bound.args[argument.name] = tuple(v for v in values if not isinstance(v, Invalid))
            return
        value = self._value(argument, exprs[0], environment)
        if argument.type is not ArgumentType.STEP and not isinstance(value, Invalid):
            self.bound.args[argument.name] = value

    def _value(self, argument: Argument, expr: tree.Expr, environment: Environment) -> Literal | Invalid:
        word = own_word(argument, expr)
        if word is not None:
            return self.interpreter.word(word, expr, environment, argument)
        value = self.interpreter.evaluate(expr, environment, argument)
        if isinstance(value, Invalid):
            self.bound.invalid = True
            return value
        if argument.type is ArgumentType.STEP:
            if isinstance(value, STEPS):
                self.bound.steps[argument.name] = (value, expr)
            elif value is not None:
                raise self._wrong(argument, expr, value)
            return None
        two = argument.name == "mean" and isinstance(value, Tensor)
        return accept(Slot(argument, self.operation, expr.span, OPERATION, _ONE_TENSOR if two else ""), value)

    def _operand(self, argument: Argument, expr: tree.Expr, environment: Environment) -> None:
        while isinstance(expr, tree.Choose):
            expr = self.interpreter.chosen(expr, environment)
        word = own_word(argument, expr)
        if word is not None:
            self.bound.args[argument.name] = self.interpreter.word(word, expr, environment, argument)
            return
        value = self.interpreter.tensor(expr, environment)
        if isinstance(value, Invalid):
            self.bound.invalid = True
            return
        if value is None and (argument.many or argument.type is ArgumentType.TENSOR):
            return
        wants_tensor = argument.type is ArgumentType.TENSOR
        if isinstance(value, Drawn):
            value = value.tensor if wants_tensor else value.distribution
        if not isinstance(value, (Tensor, Unshaped) if wants_tensor else DistributionValue):
            raise self._wrong(argument, expr, value)
        self.bound.operands.append(value)

    def _wrong(self, argument: Argument, expr: tree.Expr, value: object) -> Fault:
        """Say that a value is of the wrong kind."""
        message = f"this is no value for `{argument.name}` of `{self.operation}`"
        help = argument.doc
        if isinstance(expr, tree.List) and argument.many:
            help = f"leave out the brackets: `{self.operation}(a, b)`"
        return Fault(codes.WRONG_KIND, message, expr.span, describe(value), expected(argument), help)


def static(value: object) -> Literal | Invalid:
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
            expected=f"`{call_signature(operation.name, operation.arguments)}`",
            help=did_you_mean(s.key.id, declared),
        )
        for s in default.settings
        if s.key.id not in declared
    ]
