"""Elementwise functions."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.rules import fraction, into, number, same_shape, template
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    AtRest,
    ExpressionRule,
    IntoRule,
    LayerCall,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Saves,
)
from hvdsl.compiler.graph import Shape


def _glu_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    if channels % 2:
        raise OperationError("`glu` halves the channels", found=f"{channels} channels", expected="an even number")
    return ((channels // 2, height, width),)


def _clip_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    low, high = number(args, "low"), number(args, "high")
    if low >= high:
        raise OperationError("`clip` needs room", found=f"from {low} to {high}", expected="`low` below `high`")
    return (inputs[0],)


def _dropout_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    fraction(args, "p")
    return (inputs[0],)


def _halves(inputs: Sequence[Shape], args: Args) -> tuple[tuple[tuple[int, ...], ...], ...]:
    half = inputs[0][0] // 2
    return (tuple((1 << c | 1 << c + half,) for c in range(half)),)


def _elu_into(operands: Sequence[str], args: Args) -> str | None:
    return f"elu({operands[0]})" if number(args, "alpha") == 1 else None


def _default(function: str, name: str, default: float) -> ExpressionRule:
    """A call that leaves its one argument out where it is the default."""

    def rule(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
        value = number(args, name)
        return f"{function}({operands[0]})" if value == default else f"{function}({operands[0]}, {value!r})"

    return rule


def _dropout_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return LayerCall("Dropout", (fraction(args, "p"),))


def _function(name: str, summary: str, saves: Saves, call: str, writes_into: str = "") -> Operation:
    return Operation(
        name,
        OperationKind.STEP,
        summary,
        (),
        same_shape,
        saves=saves,
        expression=template(f"{call}({{0}})"),
        locality=Locality.ELEMENT,
        keeps_zeros=name != "sigmoid",
        writes_into=into(f"{writes_into}({{0}})") if writes_into else None,
        steady=True,
    )


def _with_number(
    name: str, summary: str, argument: str, default: float, doc: str, writes_into: IntoRule | None = None
) -> Operation:
    return Operation(
        name,
        OperationKind.STEP,
        summary,
        (Argument(argument, ArgumentType.NUMBER, default, doc=doc),),
        same_shape,
        saves=Saves.INPUT,
        expression=_default(f"F.{name}", argument, default),
        locality=Locality.ELEMENT,
        keeps_zeros=name != "softplus",
        writes_into=writes_into,
        steady=True,
    )


GELU = _function("gelu", "x Φ(x), with the exact normal distribution function.", Saves.INPUT, "gelu")
SILU = _function("silu", "x sigmoid(x).", Saves.INPUT, "F.silu", "silu")
SWISH = _function("swish", "x sigmoid(x); another name of `silu`.", Saves.INPUT, "F.silu", "silu")
ELU = _with_number("elu", "x above 0, alpha (exp(x) - 1) below.", "alpha", 1.0, "minus the limit below", _elu_into)
RELU = _function("relu", "max(x, 0).", Saves.OUTPUT, "F.relu")
LEAKY_RELU = _with_number("leaky_relu", "x above 0, slope x below.", "slope", 0.01, "slope below 0")
SIGMOID = _function("sigmoid", "1 / (1 + exp(-x)).", Saves.OUTPUT, "torch.sigmoid", "sigmoid")
TANH = _function("tanh", "Hyperbolic tangent.", Saves.OUTPUT, "torch.tanh", "tanh")
SOFTPLUS = _with_number("softplus", "log(1 + exp(beta x)) / beta.", "beta", 1.0, "sharpness at 0")
GLU = Operation(
    "glu",
    OperationKind.STEP,
    "First half of the channels times the sigmoid of the second.",
    (),
    _glu_shape,
    saves=Saves.INPUT,
    expression=template("F.glu({0}, 1)"),
    locality=Locality.PIXEL,
    channels=_halves,
    keeps_zeros=True,
    writes_into=into("glu({0}, 1)"),
)
CLIP = Operation(
    "clip",
    OperationKind.STEP,
    "Limit every value.",
    (
        Argument("low", ArgumentType.NUMBER, doc="what lower values become"),
        Argument("high", ArgumentType.NUMBER, doc="what higher values become"),
    ),
    _clip_shape,
    saves=Saves.INPUT,
    expression=template("torch.clamp({0}, {low}, {high})"),
    locality=Locality.ELEMENT,
    steady=True,
)
IDENTITY = Operation(
    "identity",
    OperationKind.STEP,
    "What comes in.",
    (),
    same_shape,
    expression=template("{0}"),
    locality=Locality.ELEMENT,
    at_rest=AtRest.IDENTITY,
    linear=True,
    view=True,
    glyph="",
)
LOW_PRECISION = Operation(
    "low_precision",
    OperationKind.INTERNAL,
    "The same map, in bf16 where products run in bf16.",
    (),
    same_shape,
    expression=template("low_precision({0})"),
    locality=Locality.ELEMENT,
    at_rest=AtRest.IDENTITY,
    linear=True,
    casts=True,
)
DROPOUT = Operation(
    "dropout",
    OperationKind.STEP,
    "In training, each value is zero with probability `p`, the others grow by 1 / (1 - p).",
    (Argument("p", ArgumentType.NUMBER, doc="probability of zero"),),
    _dropout_shape,
    saves=Saves.OUTPUT,
    layer=_dropout_layer,
    locality=Locality.ELEMENT,
    keeps_zeros=True,
    at_rest=AtRest.IDENTITY,
)

OPERATIONS = (
    GELU,
    SILU,
    SWISH,
    ELU,
    RELU,
    LEAKY_RELU,
    SIGMOID,
    TANH,
    SOFTPLUS,
    GLU,
    CLIP,
    IDENTITY,
    DROPOUT,
    LOW_PRECISION,
)
