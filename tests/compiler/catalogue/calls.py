"""Calls of operations with complete arguments, as the compiler makes them."""

from __future__ import annotations

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.table import ArgumentType, LayerCall, Reads, Required
from hvdsl.compiler.graph import Literal, Parameter, Shape

OPERANDS = (ArgumentType.TENSOR, ArgumentType.DISTRIBUTION, ArgumentType.STEP)


def complete(op: str, **given: Literal) -> dict[str, Literal]:
    args: dict[str, Literal] = {}
    for argument in OPERATIONS[op].arguments:
        if argument.name in given:
            args[argument.name] = given[argument.name]
        elif argument.type not in OPERANDS:
            assert not isinstance(argument.default, Required), f"{op} needs {argument.name}"
            args[argument.name] = argument.default
    return args


def shape(op: str, *inputs: Shape, **given: Literal) -> Shape:
    (result,) = OPERATIONS[op].shape(inputs, complete(op, **given))
    return result


def parameters(op: str, *inputs: Shape, **given: Literal) -> dict[str, Parameter]:
    rule = OPERATIONS[op].parameters
    assert rule is not None
    return {p.role: p for p in rule(inputs, complete(op, **given))}


def macs(op: str, *inputs: Shape, **given: Literal) -> int:
    rule = OPERATIONS[op].macs
    assert rule is not None
    args = complete(op, **given)
    return rule(inputs, OPERATIONS[op].shape(inputs, args), args)


def layer(op: str, *inputs: Shape, **given: Literal) -> LayerCall:
    rule = OPERATIONS[op].layer
    assert rule is not None
    args = complete(op, **given)
    return rule(inputs, OPERATIONS[op].shape(inputs, args), args)


def expression(op: str, operands: list[str], *inputs: Shape, **given: Literal) -> str:
    rule = OPERATIONS[op].expression
    assert rule is not None
    return rule(operands, inputs, complete(op, **given))


def reads(op: str, *inputs: Shape, **given: Literal) -> tuple[Reads, ...]:
    return OPERATIONS[op].positions(inputs, complete(op, **given))
