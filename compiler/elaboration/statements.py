"""Bodies: a statement that fails is reported and given up; the others go on."""

from __future__ import annotations

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.diagnostics import shapes as shape_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import check_default, static
from hvdsl.compiler.elaboration.environment import ANYTHING, Environment, bound_by
from hvdsl.compiler.elaboration.interpreter import Interpreter, flowing, unshaped
from hvdsl.compiler.elaboration.latents import latent, remember
from hvdsl.compiler.elaboration.names import check_name, tap_of_call
from hvdsl.compiler.elaboration.pipes import publish
from hvdsl.compiler.elaboration.values import (
    DistributionValue,
    Drawn,
    SharedInstance,
    SharedStep,
    Tensor,
    Unshaped,
    Value,
)
from hvdsl.compiler.evaluate.arithmetic import INVALID, Invalid, describe
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Exhausted, Fault


def run_statements(interpreter: Interpreter, body: tree.Block, environment: Environment) -> None:
    """Execute statements in order."""
    environment.body = body
    for statement in body.statements:
        execute(interpreter, statement, environment)


def execute(interpreter: Interpreter, statement: tree.Statement, environment: Environment) -> None:
    """Execute one statement. If it fails, what it would have bound becomes invalid."""
    try:
        _execute(interpreter, statement, environment)
    except Exhausted:
        raise
    except Fault as fault:
        interpreter.report(fault)
        for name in bound_by(statement):
            environment.names[name] = INVALID


def _execute(interpreter: Interpreter, statement: tree.Statement, environment: Environment) -> None:
    match statement:
        case tree.Bare():
            value = interpreter.tensor(statement.value, environment)
            if isinstance(value, Unshaped):
                raise unshaped(statement.value)
            environment.names["x"] = flowing(value, statement.value.span)
        case tree.Bind():
            _bind(interpreter, statement, environment)
        case tree.Latent():
            latent(interpreter, statement, environment)
        case tree.Let():
            _let(interpreter, statement, environment)
        case tree.Shared():
            declare(interpreter, statement, environment)
        case tree.Default():
            for fault in check_default(OPERATIONS, statement):
                raise fault
            known = environment.defaults.setdefault(statement.operation.id, [])
            known += [(setting, environment) for setting in statement.settings]


def _let(interpreter: Interpreter, statement: tree.Let, environment: Environment) -> None:
    check_name(statement.name, local=True)
    value = interpreter.evaluate(statement.value, environment, ANYTHING)
    environment.names[statement.name.id] = value
    scope = environment.frame.scope
    plain = static(value)
    if scope is not None and not isinstance(plain, Invalid):
        scope.constants[statement.name.id] = plain


def declare(interpreter: Interpreter, statement: tree.Shared, environment: Environment) -> None:
    """`shared f = …`: one instance in this scope."""
    check_name(statement.name)
    builder = interpreter.builder
    name = statement.name.id
    attribute, number = builder.declare_shared(name)
    instance = SharedInstance(name, statement.value, environment, builder.scope, attribute, number)
    environment.names[name] = SharedStep(name, instance)


def _bind(interpreter: Interpreter, statement: tree.Bind, environment: Environment) -> None:
    targets = statement.targets
    if len(targets) == 1 and isinstance(targets[0], tree.Call):
        _tap(interpreter, statement, targets[0], environment)
        return
    names: list[tree.Name] = []
    for target in targets:
        if not isinstance(target, tree.Name):
            raise Fault(codes.WRONG_KIND, "only a name can be bound", target.span, expected="a name")
        if target.id != "_":
            check_name(target, local=True)
        names.append(target)
    start = len(interpreter.builder.nodes)
    named = next((n.id for n in names if n.id != "_"), "x")
    if named == "x":  # `x = f` is what a bare flow means: it adds nothing to the names inside
        value = interpreter.tensor(statement.value, environment)
    else:
        with interpreter.builder.enter("binding", named, statement.span):
            value = interpreter.tensor(statement.value, environment)
    if isinstance(value, Unshaped):
        raise unshaped(statement.value)
    if len(names) == 1:
        _set(interpreter, names[0], value, environment, start)
        return
    if isinstance(value, Invalid):
        values: tuple[Value, ...] = (INVALID,) * len(names)
    elif isinstance(value, tuple):
        values = value
    else:
        values = (value,)
    if len(values) != len(names):
        raise Fault(
            shape_codes.WRONG_NUMBER,
            f"{len(names)} names for {len(values)} tensor{'s' if len(values) != 1 else ''}",
            statement.span,
            describe(value),
            f"{len(names)} tensors",
            "write as many names as there are tensors, `_` for those that are not needed",
        )
    for name, one in zip(names, values, strict=True):
        _set(interpreter, name, one, environment, start)


def _set(interpreter: Interpreter, name: tree.Name, value: Value, environment: Environment, start: int) -> None:
    if name.id == "_":
        return
    if isinstance(value, Drawn):
        value = value.tensor
    if not isinstance(value, DistributionValue):
        value = flowing(value, name.span)
    environment.names[name.id] = value
    if isinstance(value, Tensor | DistributionValue) and value.value.node >= start and name.id != "x":
        remember(interpreter, value.value.node, value.value.port, name.id)


def _tap(interpreter: Interpreter, statement: tree.Bind, target: tree.Call, environment: Environment) -> None:
    if not (isinstance(target.function, tree.Name) and target.function.id == "tap"):
        raise Fault(codes.WRONG_KIND, "only a name or `tap(name)` can stand here", target.span)
    name = tap_of_call(target.arguments, target)
    with interpreter.builder.enter("binding", name, statement.span):
        value = interpreter.tensor(statement.value, environment)
        stream = flowing(value, statement.value.span)
        if isinstance(stream, tuple):
            raise Fault(codes.WRONG_KIND, "a tap is one tensor", statement.value.span, describe(value), "one tensor")
    publish(interpreter, name, stream, statement.span)
