"""Uses of recipes and of shared instances."""

from __future__ import annotations

from dataclasses import replace

from hvdsl.compiler.catalogue.table import Required
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import call_parts, static
from hvdsl.compiler.elaboration.environment import Environment, Frame, Owner
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.program import ANYTHING
from hvdsl.compiler.elaboration.streams import result_of
from hvdsl.compiler.elaboration.values import STEPS, Flowing, NamedStep, RecipeStep, SharedStep, Value
from hvdsl.compiler.evaluate.binding import OPERATION, match, missing
from hvdsl.compiler.evaluate.faults import Fault
from hvdsl.compiler.evaluate.values import Invalid
from hvdsl.compiler.graph import Scope
from hvdsl.grammar.source import Span


def apply_recipe(interpreter: Interpreter, step: RecipeStep, flowing: Flowing) -> Flowing:
    recipe, caller, name = step.recipe, step.environment.frame, step.recipe.name.id
    key = (caller.section, name)
    index = interpreter.counts.get(key, 0)
    interpreter.counts[key] = index + 1
    given = _parameters(interpreter, step)
    with interpreter.builder.enter("recipe", name, step.call.span, numbered=True) as scope:
        scope.definition, scope.comments = (recipe.kind, recipe.name.span), recipe.before
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
        interpreter.run(recipe.body, environment)
        return result_of(environment, recipe.name.span)


def _named(name: str, value: Value) -> Value:
    if not isinstance(value, STEPS):
        return value
    return NamedStep(name, value.step if isinstance(value, NamedStep) else value)


def _parameters(interpreter: Interpreter, step: RecipeStep) -> dict[str, Value]:
    """Evaluate the arguments of a call at the call; defaults are the callee's business."""
    name, declared = step.recipe.name.id, interpreter.program.parameters(step.recipe)
    pairs = match(name, declared, call_parts(step.call)[1], OPERATION)
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
