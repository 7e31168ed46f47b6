"""`conv`, `depthwise`, `upconv`, and `dense`, a linear map of the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hvdsl.compiler.catalogue.padding import PAD, Padding, output_size, resolve_padding, sliding
from hvdsl.compiler.catalogue.rules import element_count, positive_integer, positive_pair, shape_text, switch, term
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    LayerCall,
    Layout,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Reads,
    ReadWindow,
    Saves,
)
from hvdsl.compiler.catalogue.weights import (
    BIAS_INIT,
    GAIN,
    INIT,
    MASK,
    NORM,
    Mask,
    causal_mask,
    checked_init,
    gain_parameters,
    init_options,
    masked,
    norm_option,
    weight_norm,
)
from hvdsl.compiler.graph import Literal, Parameter, Shape, Term

KERNEL = Argument("kernel", ArgumentType.KERNEL, doc="`3`, `3x3` or `(height, width)`")
OUT = Argument("out", ArgumentType.INTEGER, doc="channels of the output")
STRIDE = Argument("stride", ArgumentType.KERNEL, (1, 1), doc="step between output positions")
DILATION = Argument("dilation", ArgumentType.KERNEL, (1, 1), doc="step between kernel elements")
GROUPS = Argument("groups", ArgumentType.INTEGER, 1, doc="blocks of channels that do not see each other")
BIAS = Argument("bias", ArgumentType.SWITCH, True, doc="a bias per output channel")


def _conv_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels = inputs[0][0]
    out, groups = positive_integer(args, "out"), positive_integer(args, "groups")
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
    padding = resolve_padding(args["pad"], shape, kernel, stride, dilation)
    height = output_size(shape[1], kernel[0], stride[0], padding.top, padding.bottom, dilation[0])
    width = output_size(shape[2], kernel[1], stride[1], padding.left, padding.right, dilation[1])
    if height < 1 or width < 1:
        raise OperationError(
            "the kernel is larger than the padded map",
            found=f"a kernel of {kernel[0]}x{kernel[1]} on {shape_text(shape)}",
            expected="a kernel that fits",
        )
    return out, height, width


def _upconv_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    out, groups = positive_integer(args, "out"), positive_integer(args, "groups")
    if channels % groups or out % groups:
        raise OperationError(
            "`groups` must divide the channels of input and output",
            found=f"{groups} groups, {channels} channels in, {out} out",
            expected="a divisor of both",
        )
    if groups > 1 and weight_norm(args) is not None:
        raise OperationError("an `upconv` in groups has no weight norm", expected="`groups = 1` or `norm = none`")
    kernel, stride = positive_pair(args, "kernel"), positive_pair(args, "stride")
    if args["pad"] not in (Term("same"), Term("tf")):
        raise OperationError("an `upconv` gives stride times the size", expected="`pad = same` or `pad = tf`")
    if args["pad"] == Term("same") and any(
        step == 1 and size % 2 == 0 for size, step in zip(kernel, stride, strict=True)
    ):
        raise OperationError(
            "an even kernel at stride 1 has no symmetric padding",
            found="a kernel of {}x{}, stride ({}, {})".format(*kernel, *stride),
            expected="an odd kernel, or a stride above 1",
            help="say `pad = tf`",
        )
    return ((out, height * stride[0], width * stride[1]),)


def upconv_crop(args: Args) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a transposed convolution cuts from its full output, as ((top, bottom), (left, right)).

    The full output has (size - 1) stride + kernel positions, the result size * stride. A negative number adds
    positions that no kernel element reaches by itself (PyTorch's `output_padding`). `same` mirrors the
    symmetric convolution of that stride, `tf` TensorFlow's.
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


def _weight(inputs: Sequence[Shape], out: int, args: Args) -> tuple[int, ...]:
    groups = positive_integer(args, "groups") if "groups" in args else out
    return out, inputs[0][0] // groups, *positive_pair(args, "kernel")


def _parameters(weight: tuple[int, ...], out: int, args: Args, channel_axis: int = 0) -> tuple[Parameter, ...]:
    parameters = [Parameter("weight", weight, checked_init(term(args, "init")))]
    parameters += gain_parameters(args, weight, channel_axis)
    if switch(args, "bias"):
        parameters.append(Parameter("bias", (out,), checked_init(term(args, "bias_init"))))
    return tuple(parameters)


def _conv_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out = positive_integer(args, "out") if "out" in args else inputs[0][0]
    return _parameters(_weight(inputs, out, args), out, args)


def _upconv_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out, groups = positive_integer(args, "out"), positive_integer(args, "groups")
    weight = (inputs[0][0], out // groups, *positive_pair(args, "kernel"))
    return _parameters(weight, out, args, channel_axis=1)


def _conv_macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    _, per_output, height, width = _weight(inputs, outputs[0][0], args)
    return element_count(outputs[0]) * per_output * height * width


def _upconv_macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    height, width = positive_pair(args, "kernel")
    return element_count(inputs[0]) * outputs[0][0] // positive_integer(args, "groups") * height * width


def _conv_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    kernel, stride, dilation = (positive_pair(args, name) for name in ("kernel", "stride", "dilation"))
    padding = resolve_padding(args["pad"], inputs[0], kernel, stride, dilation)
    rows, columns = ([i * dilation[a] - before for i in range(kernel[a])] for a, before in _before(padding))
    window, mask = sliding(kernel, stride, padding, dilation), causal_mask(args, 1, 1)
    offsets = list(product(rows, columns)) if mask is not None else []
    # Of several inputs (`passes/split_concat.py`) each is read alike.
    return (masked(window, mask, offsets),) * len(inputs)


def _before(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, padding.top), (1, padding.left)


def _conv_channels(inputs: Sequence[Shape], args: Args) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Groups see their own channels; at the own position a mask leaves the earlier blocks of them."""
    channels = inputs[0][0]
    outputs = positive_integer(args, "out") if "out" in args else channels
    groups = positive_integer(args, "groups") if "groups" in args else channels
    mask = causal_mask(args, channels, outputs)
    width, height = channels // groups, outputs // groups
    blocks = min(width, height)
    masks = []
    for output in range(outputs):
        group, channel = divmod(output, height)
        stop = width
        if mask is not None and mask.at in ("before", "upto"):
            stop = (channel * blocks // height + (mask.at == "upto")) * width // blocks
        masks.append((((1 << stop) - 1) << group * width,))
    return (tuple(masks),)


def _upconv_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    axes = zip(positive_pair(args, "kernel"), positive_pair(args, "stride"), upconv_crop(args), strict=True)
    rows, columns = (
        # Output o reads the inputs i with o + before = i stride + j, 0 <= j < kernel.
        ReadWindow(-((kernel - 1 - before) // stride), (stride - 1 + before) // stride, up=stride)
        for kernel, stride, (before, _) in axes
    )
    return (Reads(rows, columns),)


def _conv_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    options: list[tuple[str, Literal]] = []
    options += [(name, _short(args, name)) for name in ("stride", "dilation") if args[name] != (1, 1)]
    padding = _padding_option(inputs[0], args)
    if padding is not None:
        options.append(("padding", padding))
    groups = positive_integer(args, "groups") if "groups" in args else inputs[0][0]
    if groups > 1:
        options.append(("groups", groups))
    mask = causal_mask(args, inputs[0][0], outputs[0][0])
    if mask is not None:
        options.append(("mask", _mask_call(mask)))
    return _layer("Conv2d", inputs, outputs, args, options)


def _mask_call(mask: Mask) -> Term:
    return Term("Causal", (mask.at,), (("mirror", True),) if mask.mirror else ())


def _upconv_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    options: list[tuple[str, Literal]] = []
    if args["stride"] != (2, 2):
        options.append(("stride", _short(args, "stride")))
    if term(args, "pad").name == "tf":
        options.append(("padding", "tf"))
    if positive_integer(args, "groups") > 1:
        options.append(("groups", positive_integer(args, "groups")))
    return _layer("ConvTranspose2d", inputs, outputs, args, options)


def _layer(
    name: str,
    inputs: Sequence[Shape],
    outputs: Sequence[Shape],
    args: Args,
    options: Sequence[tuple[str, Literal]],
) -> LayerCall:
    bias = () if switch(args, "bias") else (("bias", False),)
    kernel = positive_pair(args, "kernel")
    return LayerCall(
        name,
        (inputs[0][0], outputs[0][0], kernel),
        (*options, *bias, *norm_option(args), *init_options(args)),
    )


def _short(args: Args, name: str) -> Literal:
    """`2` for `(2, 2)`."""
    height, width = positive_pair(args, name)
    return height if height == width else (height, width)


def _padding_option(shape: Shape, args: Args) -> Literal:
    """What the layer's `padding` must say; None where its default, the symmetric one, does the same."""
    pad = args["pad"]
    if pad == Term("same"):
        return None
    if isinstance(pad, Term) and pad.name in ("tf", "reflect"):
        return pad.name
    kernel, stride, dilation = (positive_pair(args, name) for name in ("kernel", "stride", "dilation"))
    return resolve_padding(pad, shape, kernel, stride, dilation).sides


CONV = Operation(
    "conv",
    OperationKind.STEP,
    "Convolution.",
    (KERNEL, OUT, STRIDE, DILATION, GROUPS, BIAS, PAD, MASK, NORM, GAIN, INIT, BIAS_INIT),
    shape=_conv_shape,
    parameters=_conv_parameters,
    macs=_conv_macs,
    saves=Saves.INPUT,
    layer=_conv_layer,
    locality=Locality.WINDOW,
    reads=_conv_reads,
    channels=_conv_channels,
    linear=True,
    bias="bias",
)
DEPTHWISE = Operation(
    "depthwise",
    OperationKind.STEP,
    "Convolution of each channel by itself.",
    (KERNEL, STRIDE, DILATION, BIAS, PAD, MASK, NORM, GAIN, INIT, BIAS_INIT),
    shape=_depthwise_shape,
    parameters=_conv_parameters,
    macs=_conv_macs,
    saves=Saves.INPUT,
    layer=_conv_layer,
    locality=Locality.WINDOW,
    reads=_conv_reads,
    channels=_conv_channels,
    linear=True,
    bias="bias",
    layout=Layout.CHANNELS_LAST,
)
UPCONV = Operation(
    "upconv",
    OperationKind.STEP,
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
    macs=_upconv_macs,
    saves=Saves.INPUT,
    layer=_upconv_layer,
    locality=Locality.WINDOW,
    reads=_upconv_reads,
    linear=True,
    bias="bias",
)


def _dense_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((positive_integer(args, "out"), 1, 1),)


def _dense_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    out = positive_integer(args, "out")
    weight = (out, element_count(inputs[0]))
    parameters = [Parameter("weight", weight, checked_init(term(args, "init")))]
    parameters += gain_parameters(args, weight)
    if switch(args, "bias"):
        parameters.append(Parameter("bias", (out,), checked_init(term(args, "bias_init"))))
    return tuple(parameters)


def _dense_macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    return element_count(inputs[0]) * element_count(outputs[0])


def _dense_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    bias = () if switch(args, "bias") else (("bias", False),)
    return LayerCall(
        "Dense", (element_count(inputs[0]), outputs[0][0]), (*bias, *norm_option(args), *init_options(args))
    )


DENSE = Operation(
    "dense",
    OperationKind.STEP,
    "Linear map of the flattened tensor to a 1x1 map.",
    (
        Argument("out", ArgumentType.INTEGER, doc="channels of the output"),
        Argument("bias", ArgumentType.SWITCH, True, doc="a bias per output channel"),
        NORM,
        GAIN,
        INIT,
        BIAS_INIT,
    ),
    shape=_dense_shape,
    parameters=_dense_parameters,
    macs=_dense_macs,
    saves=Saves.INPUT,
    layer=_dense_layer,
    locality=Locality.MAP,
    linear=True,
    bias="bias",
)

OPERATIONS = (CONV, DEPTHWISE, UPCONV, DENSE)
