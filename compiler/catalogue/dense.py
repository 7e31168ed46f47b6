"""`dense`: a linear map of the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.inits import BIAS_INIT, INIT, checked, init_options
from hvdsl.compiler.catalogue.shapes import size
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    Kind,
    Layer,
    Locality,
    Operation,
    Saves,
)
from hvdsl.compiler.catalogue.values import positive, switch, term
from hvdsl.compiler.catalogue.weight_norm import GAIN, NORM, gain_parameters, norm_option
from hvdsl.compiler.graph import Parameter, Shape


def _shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((positive(args, "out"), 1, 1),)


def _parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out = positive(args, "out")
    weight = (out, size(inputs[0]))
    parameters = [Parameter("weight", weight, checked(term(args, "init")))]
    parameters += gain_parameters(args, weight)
    if switch(args, "bias"):
        parameters.append(Parameter("bias", (out,), checked(term(args, "bias_init"))))
    return tuple(parameters)


def _macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    return size(inputs[0]) * size(outputs[0])


def _layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> Layer:
    bias = () if switch(args, "bias") else (("bias", False),)
    return Layer("Dense", (size(inputs[0]), outputs[0][0]), (*bias, *norm_option(args), *init_options(args)))


DENSE = Operation(
    "dense",
    Kind.STEP,
    "Linear map of the flattened tensor to a 1x1 map.",
    (
        Argument("out", ArgumentType.INTEGER, doc="channels of the output"),
        Argument("bias", ArgumentType.SWITCH, True, doc="a bias per output channel"),
        NORM,
        GAIN,
        INIT,
        BIAS_INIT,
    ),
    shape=_shape,
    parameters=_parameters,
    macs=_macs,
    saves=Saves.INPUT,
    layer=_layer,
    locality=Locality.MAP,
    linear=True,
    bias="bias",
)

OPERATIONS = (DENSE,)
