"""Tensors from nothing. Where `grid` is not given, the compiler puts the row's label there.

Emitted code takes the batch and the device, where it needs them, from the traversal `latents`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.rules import number, positive_integer, positive_pair, template, term
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    LayerCall,
    Layout,
    Locality,
    Needs,
    Operation,
    OperationError,
    OperationKind,
)
from hvdsl.compiler.catalogue.weights import INIT_CALLS, MAP_INITS, checked_init
from hvdsl.compiler.graph import Parameter, Shape

GRID = Argument("grid", ArgumentType.KERNEL, None, doc="height and width; by default the row's label")


def grid_shape(channels: int, args: Args) -> Shape:
    """A tensor of that many channels on the argument `grid`.

    Raises:
        OperationError: where there is no grid, outside of rows.
    """
    if args["grid"] is None:
        raise OperationError("this place has no resolution", expected="`grid = 8x8`, or a row around it")
    return channels, *positive_pair(args, "grid")


def _learned_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    if args["channels"] is None:
        raise OperationError(
            "`learned` does not know its channels here",
            expected="`learned(init, channels)`; only what is added to a tensor takes that tensor's shape",
        )
    return (grid_shape(positive_integer(args, "channels"), args),)


def _learned_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    return (Parameter("value", _learned_shape(inputs, args)[0], checked_init(term(args, "init"))),)


def _constant_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return (grid_shape(positive_integer(args, "channels"), args),)


def _coordinates_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((2, *inputs[0][1:]),)


def _learned_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return LayerCall("Learned", (outputs[0], checked_init(term(args, "init"))))


def _constant(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    shape = ", ".join(str(n) for n in _constant_shape(shapes, args)[0])
    value = float(number(args, "value"))
    return f"torch.full((latents.batch, {shape}), {value!r}, device=latents.device, dtype=latents.dtype)"


LEARNED = Operation(
    "learned",
    OperationKind.SOURCE,
    "A trained map, one for all images.",
    (
        Argument("init", ArgumentType.WORD, words=MAP_INITS, doc="first values", calls=INIT_CALLS),
        Argument("channels", ArgumentType.INTEGER, None, doc="by default the shape of what it is added to"),
        GRID,
    ),
    shape=_learned_shape,
    parameters=_learned_parameters,
    layer=_learned_layer,
    locality=Locality.ELEMENT,
)
CONSTANT = Operation(
    "constant",
    OperationKind.SOURCE,
    "A map with one value everywhere.",
    (
        Argument("value", ArgumentType.NUMBER, doc="the value"),
        Argument("channels", ArgumentType.INTEGER, doc="how many channels"),
        GRID,
    ),
    shape=_constant_shape,
    expression=_constant,
    locality=Locality.ELEMENT,
    layout=Layout.FREE,
)
COORDINATES = Operation(
    "coordinates",
    OperationKind.SOURCE,
    "Row and column of each position of a tensor, (i - size / 2) / size, as two channels.",
    (Argument("tensor", ArgumentType.TENSOR, doc="whose map"),),
    shape=_coordinates_shape,
    expression=template("coordinates({0})"),
    locality=Locality.PIXEL,
    needs=Needs.SIZE,
)

OPERATIONS = (LEARNED, CONSTANT, COORDINATES)
