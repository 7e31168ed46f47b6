"""`conv`, `depthwise`, `upconv`."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.graph import Parameter, Shape, Term
from hvdsl.compiler.operations.inits import BIAS_INIT, INIT, checked
from hvdsl.compiler.operations.masks import MASK, causal_mask
from hvdsl.compiler.operations.padding import PAD, output_size, resolve
from hvdsl.compiler.operations.shapes import show
from hvdsl.compiler.operations.table import (
    Args,
    Argument,
    ArgumentType,
    Kind,
    Operation,
    OperationError,
    Saves,
)
from hvdsl.compiler.operations.values import positive, positive_pair, switch, term
from hvdsl.compiler.operations.weight_norm import GAIN, NORM, gain_parameters

KERNEL = Argument("kernel", ArgumentType.KERNEL, doc="`3`, `3x3` or `(height, width)`")
OUT = Argument("out", ArgumentType.INTEGER, doc="channels of the output")
STRIDE = Argument("stride", ArgumentType.KERNEL, (1, 1), doc="step between output positions")
DILATION = Argument("dilation", ArgumentType.KERNEL, (1, 1), doc="step between kernel elements")
GROUPS = Argument("groups", ArgumentType.INTEGER, 1, doc="blocks of channels that do not see each other")
BIAS = Argument("bias", ArgumentType.SWITCH, True, doc="a bias per output channel")


def _conv_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels = inputs[0][0]
    out, groups = positive(args, "out"), positive(args, "groups")
    if channels % groups or out % groups:
        raise OperationError(
            "`groups` must divide the channels of input and output",
            found=f"{groups} groups, {channels} channels in, {out} out",
            expected="a divisor of both",
        )
    if groups > 1:
        _no_mask(args, "a convolution in groups")
    causal_mask(args, channels, out)
    return (_convolved(inputs[0], out, args),)


def _depthwise_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels = inputs[0][0]
    causal_mask(args, channels, channels)
    return (_convolved(inputs[0], channels, args),)


def _convolved(shape: Shape, out: int, args: Args) -> Shape:
    kernel, stride, dilation = (positive_pair(args, name) for name in ("kernel", "stride", "dilation"))
    padding = resolve(args["pad"], shape, kernel, stride, dilation)
    height = output_size(shape[1], kernel[0], stride[0], padding.top, padding.bottom, dilation[0])
    width = output_size(shape[2], kernel[1], stride[1], padding.left, padding.right, dilation[1])
    if height < 1 or width < 1:
        raise OperationError(
            "the kernel is larger than the padded map",
            found=f"a kernel of {kernel[0]}x{kernel[1]} on {show(shape)}",
            expected="a kernel that fits",
        )
    return out, height, width


def _upconv_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    out, groups = positive(args, "out"), positive(args, "groups")
    if channels % groups or out % groups:
        raise OperationError(
            "`groups` must divide the channels of input and output",
            found=f"{groups} groups, {channels} channels in, {out} out",
            expected="a divisor of both",
        )
    positive_pair(args, "kernel")
    if args["pad"] not in (Term("same"), Term("tf")):
        raise OperationError("an `upconv` gives stride times the size", expected="`pad = same` or `pad = tf`")
    stride = positive_pair(args, "stride")
    return ((out, height * stride[0], width * stride[1]),)


def upconv_crop(args: Args) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a transposed convolution cuts from its full output, as ((top, bottom), (left, right)).

    The full output has (size - 1) stride + kernel positions, the result size * stride. A negative number adds positions that no kernel
    element reaches by itself (PyTorch's `output_padding`). `same` mirrors the symmetric convolution of that stride, `tf` TensorFlow's.
    """
    (height, width), (down, right) = positive_pair(args, "kernel"), positive_pair(args, "stride")
    tf = term(args, "pad").name == "tf"
    return _cut(height, down, tf), _cut(width, right, tf)


def _cut(kernel: int, stride: int, tf: bool) -> tuple[int, int]:
    surplus = kernel - stride
    if surplus <= 0:
        return 0, surplus
    before = surplus // 2 if tf else -(-surplus // 2)
    return before, surplus - before


def _no_mask(args: Args, what: str) -> None:
    if args["mask"] is not None:
        raise OperationError(f"{what} takes no mask", found="`mask`", expected="`mask = none`")


def _parameters(weight: tuple[int, ...], out: int, args: Args) -> tuple[Parameter, ...]:
    parameters = [Parameter("weight", weight, checked(term(args, "init")))]
    parameters += gain_parameters(args, out)
    if switch(args, "bias"):
        parameters.append(Parameter("bias", (out,), checked(term(args, "bias_init"))))
    return tuple(parameters)


def _conv_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out = positive(args, "out")
    return _parameters(
        (out, inputs[0][0] // positive(args, "groups"), *positive_pair(args, "kernel")), out, args
    )


def _depthwise_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    channels = inputs[0][0]
    return _parameters((channels, 1, *positive_pair(args, "kernel")), channels, args)


def _upconv_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out = positive(args, "out")
    return _parameters(
        (inputs[0][0], out // positive(args, "groups"), *positive_pair(args, "kernel")), out, args
    )


OPERATIONS = (
    Operation(
        "conv",
        Kind.STEP,
        "Convolution.",
        (KERNEL, OUT, STRIDE, DILATION, GROUPS, BIAS, PAD, MASK, NORM, GAIN, INIT, BIAS_INIT),
        shape=_conv_shape,
        parameters=_conv_parameters,
        saves=Saves.INPUT,
    ),
    Operation(
        "depthwise",
        Kind.STEP,
        "Convolution of each channel by itself.",
        (KERNEL, STRIDE, DILATION, BIAS, PAD, MASK, NORM, GAIN, INIT, BIAS_INIT),
        shape=_depthwise_shape,
        parameters=_depthwise_parameters,
        saves=Saves.INPUT,
    ),
    Operation(
        "upconv",
        Kind.STEP,
        "Transposed convolution: the map grows by the stride.",
        (
            KERNEL,
            OUT,
            Argument("stride", ArgumentType.KERNEL, (2, 2), doc="how many times larger the output is"),
            GROUPS,
            BIAS,
            Argument(
                "pad",
                ArgumentType.WORD,
                Term("same"),
                ("same", "tf"),
                "which border is cut where it cannot be cut evenly",
            ),
            NORM,
            GAIN,
            INIT,
            BIAS_INIT,
        ),
        shape=_upconv_shape,
        parameters=_upconv_parameters,
        saves=Saves.INPUT,
    ),
)
