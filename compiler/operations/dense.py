"""`dense`: a linear map of the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.graph import Parameter, Shape
from hvdsl.compiler.operations.inits import BIAS_INIT, INIT, checked
from hvdsl.compiler.operations.shapes import size
from hvdsl.compiler.operations.table import Args, Argument, ArgumentType, Kind, Operation, Saves
from hvdsl.compiler.operations.values import positive, switch, term
from hvdsl.compiler.operations.weight_norm import GAIN, NORM, gain_parameters


def _shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((positive(args, "out"), 1, 1),)


def _parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out = positive(args, "out")
    parameters = [Parameter("weight", (out, size(inputs[0])), checked(term(args, "init")))]
    parameters += gain_parameters(args, out)
    if switch(args, "bias"):
        parameters.append(Parameter("bias", (out,), checked(term(args, "bias_init"))))
    return tuple(parameters)


OPERATIONS = (
    Operation(
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
        saves=Saves.INPUT,
    ),
)
