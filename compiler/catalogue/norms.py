"""Normalisation, and the gain and bias that often stand in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hvdsl.compiler.catalogue.rules import number, positive_integer, same_shape
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    AtRest,
    LayerCall,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Saves,
)
from hvdsl.compiler.catalogue.weights import ONES, ZEROS, constant_init
from hvdsl.compiler.graph import Literal, Parameter, Shape

EPS = Argument("eps", ArgumentType.NUMBER, 1e-5, doc="added to the variance")


def _scale_and_shift(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    channels = (inputs[0][0],)
    return Parameter("weight", channels, ONES), Parameter("bias", channels, ZEROS)


def _batch_norm_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    channels = (inputs[0][0],)
    return (
        Parameter("weight", channels, ONES),
        Parameter("bias", channels, constant_init(number(args, "shift"))),
        Parameter("running_mean", channels, ZEROS, trainable=False),
        Parameter("running_var", channels, ONES, trainable=False),
    )


def _group_norm_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    groups, channels = positive_integer(args, "groups"), inputs[0][0]
    if channels % groups:
        raise OperationError(
            "`groups` must divide the channels",
            found=f"{groups} groups, {channels} channels",
            expected="a divisor",
        )
    return (inputs[0],)


def _affine_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    channels = (inputs[0][0], 1, 1)
    return Parameter("gain", channels, ONES), Parameter("bias", channels, ZEROS)


def _eps(args: Args) -> tuple[tuple[str, Literal], ...]:
    return () if number(args, "eps") == 1e-5 else (("eps", number(args, "eps")),)


def _batch_norm_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    options: list[tuple[str, Literal]] = list(_eps(args))
    if number(args, "momentum") != 0.1:
        options.append(("momentum", number(args, "momentum")))
    if number(args, "shift") != 0:
        options.append(("bias_init", constant_init(number(args, "shift"))))
    return LayerCall("BatchNorm2d", (inputs[0][0],), tuple(options))


def _batch_norm_silu_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return replace(_batch_norm_layer(inputs, outputs, args), name="BatchNormSiLU")


def _group_norm_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return LayerCall("GroupNorm", (positive_integer(args, "groups"), inputs[0][0]), _eps(args))


def _layer_norm_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return LayerCall("LayerNorm", (inputs[0][0],), _eps(args))


def _affine_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    return LayerCall("Affine", (inputs[0][0],))


BATCH_NORM = Operation(
    "batch_norm",
    OperationKind.STEP,
    "Batch normalisation; running statistics outside training.",
    (
        Argument("momentum", ArgumentType.NUMBER, 0.1, doc="weight of the new batch in the running statistics"),
        EPS,
        Argument("shift", ArgumentType.NUMBER, 0.0, doc="first value of the bias"),
    ),
    shape=same_shape,
    parameters=_batch_norm_parameters,
    saves=Saves.INPUT,
    layer=_batch_norm_layer,
    locality=Locality.ELEMENT,
    at_rest=AtRest.LINEAR,
    whole_batch=True,
    cancels_bias=True,
)

BATCH_NORM_SILU = replace(
    BATCH_NORM,
    name="batch_norm_silu",
    kind=OperationKind.INTERNAL,
    summary="Batch normalisation, then x sigmoid(x); keeps its input alone for the backward pass.",
    layer=_batch_norm_silu_layer,
    at_rest=AtRest.SAME,
)

OPERATIONS = (
    BATCH_NORM,
    BATCH_NORM_SILU,
    Operation(
        "group_norm",
        OperationKind.STEP,
        "Group normalisation.",
        (Argument("groups", ArgumentType.INTEGER, 32, doc="how many groups of channels"), EPS),
        shape=_group_norm_shape,
        parameters=_scale_and_shift,
        saves=Saves.INPUT,
        layer=_group_norm_layer,
        locality=Locality.MAP,
    ),
    Operation(
        "layer_norm",
        OperationKind.STEP,
        "Layer normalisation over the channels of each position.",
        (EPS,),
        shape=same_shape,
        parameters=_scale_and_shift,
        saves=Saves.INPUT,
        layer=_layer_norm_layer,
        locality=Locality.PIXEL,
    ),
    Operation(
        "affine",
        OperationKind.STEP,
        "A gain (at first 1) and a bias (at first 0) per channel.",
        (),
        shape=same_shape,
        parameters=_affine_parameters,
        saves=Saves.INPUT,
        layer=_affine_layer,
        locality=Locality.ELEMENT,
        linear=True,
    ),
)
