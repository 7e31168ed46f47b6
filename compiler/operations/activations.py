"""Elementwise functions."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.graph import Shape
from hvdsl.compiler.operations.shapes import same
from hvdsl.compiler.operations.table import (
    Args,
    Argument,
    ArgumentType,
    Kind,
    Operation,
    OperationError,
    Saves,
)
from hvdsl.compiler.operations.values import fraction, number


def _glu_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    if channels % 2:
        raise OperationError(
            "`glu` halves the channels", found=f"{channels} channels", expected="an even number"
        )
    return ((channels // 2, height, width),)


def _clip_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    low, high = number(args, "low"), number(args, "high")
    if low >= high:
        raise OperationError(
            "`clip` needs room", found=f"from {low} to {high}", expected="`low` below `high`"
        )
    return (inputs[0],)


def _dropout_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    fraction(args, "p")
    return (inputs[0],)


def _activation(name: str, summary: str, saves: Saves, arguments: tuple[Argument, ...] = ()) -> Operation:
    return Operation(name, Kind.STEP, summary, arguments, shape=same, saves=saves)


OPERATIONS = (
    _activation("gelu", "x Φ(x), with the exact normal distribution function.", Saves.INPUT),
    _activation("silu", "x sigmoid(x).", Saves.INPUT),
    _activation("swish", "x sigmoid(x); another name of `silu`.", Saves.INPUT),
    _activation(
        "elu",
        "x above 0, alpha (exp(x) - 1) below.",
        Saves.INPUT,
        (Argument("alpha", ArgumentType.NUMBER, 1.0, doc="minus the limit below"),),
    ),
    _activation("relu", "max(x, 0).", Saves.OUTPUT),
    _activation(
        "leaky_relu",
        "x above 0, slope x below.",
        Saves.INPUT,
        (Argument("slope", ArgumentType.NUMBER, 0.01, doc="slope below 0"),),
    ),
    _activation("sigmoid", "1 / (1 + exp(-x)).", Saves.OUTPUT),
    _activation("tanh", "Hyperbolic tangent.", Saves.OUTPUT),
    _activation(
        "softplus",
        "log(1 + exp(beta x)) / beta.",
        Saves.INPUT,
        (Argument("beta", ArgumentType.NUMBER, 1.0, doc="sharpness at 0"),),
    ),
    Operation(
        "glu",
        Kind.STEP,
        "First half of the channels times the sigmoid of the second.",
        (),
        _glu_shape,
        saves=Saves.INPUT,
    ),
    Operation(
        "clip",
        Kind.STEP,
        "Limit every value.",
        (Argument("low", ArgumentType.NUMBER), Argument("high", ArgumentType.NUMBER)),
        _clip_shape,
        saves=Saves.INPUT,
    ),
    Operation("identity", Kind.STEP, "What comes in.", (), same),
    Operation(
        "dropout",
        Kind.STEP,
        "In training, each value is zero with probability `p`, the others grow by 1 / (1 - p).",
        (Argument("p", ArgumentType.NUMBER, doc="probability of zero"),),
        _dropout_shape,
        saves=Saves.OUTPUT,
    ),
)
