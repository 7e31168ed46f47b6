"""Uses of recipes and of shared instances."""

from __future__ import annotations

from dataclasses import replace

from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import call_parts, static
from hvdsl.compiler.elaboration.environment import Environment, Frame, Owner
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.streams import result_of
from hvdsl.compiler.elaboration.values import (
    STEPS,
    Flowing,
    Invalid,
    NamedStep,
    RecipeStep,
    SharedStep,
    Value,
)
from hvdsl.compiler.graph import Scope
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def apply_recipe(interpreter: Interpreter, step: RecipeStep, flowing: Flowing) -> Flowing:
    recipe, caller, name = step.recipe, step.environment.frame, step.recipe.name.id
    key = (caller.section, name)
    index = interpreter.counts.get(key, 0)
    interpreter.counts[key] = index + 1
    given = _parameters(interpreter, step)
    with interpreter.builder.enter("recipe", name, step.call.span, numbered=True) as scope:
        scope.definition = recipe.kind, recipe.name.span
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
    parts = [p.name.id if p.default is None else f"{p.name.id} = {p.default.span.text}" for p in recipe.parameters]
    return f"`{recipe.name.id}({', '.join(parts)})`" if parts else f"`{recipe.name.id}` without arguments"


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


def _check_own(step: SharedStep, scope: Scope, span: Span) -> None:
    """Refuse roles that the instance does not have, or does not train."""
    parameters = [p for node in scope.nodes() for p in node.parameters]
    roles = dict.fromkeys(p.role for p in parameters if p.trainable)
    for role in step.own:
        if role not in roles:
            told = "is not trained" if any(p.role == role for p in parameters) else "is none"
            raise Fault(
                codes.WRONG_ARGUMENTS,
                f"`{step.name}` has no parameters `{role}`",
                span,
                f"`own = {role}`, which {told}",
                f"any of {', '.join(f'`{r}`' for r in roles)}" if roles else "an instance with parameters",
            )
