"""Operations that change the size of the map."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.padding import SIDES, Padding, output_size, resolve_padding, sliding
from hvdsl.compiler.catalogue.rules import positive_integer, positive_pair, shape_text, short, switch, template
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    Channels,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Reads,
    ReadWindow,
    Saves,
)
from hvdsl.compiler.graph import Shape, Term

POOL_ARGUMENTS = (
    Argument("kernel", ArgumentType.KERNEL, doc="size of the window"),
    Argument("stride", ArgumentType.KERNEL, None, doc="step of the window; by default its size"),
    Argument(
        "pad",
        ArgumentType.WORD,
        Term("same"),
        ("same", "tf", "none"),
        "where the window passes the border only what is inside counts; forms as for `conv`",
        other=SIDES,
    ),
)
COUNT_PADDING = Argument(
    "count_padding", ArgumentType.SWITCH, False, doc="what `pad` adds counts as zeros in the mean", new=True
)
FACTOR = Argument("factor", ArgumentType.KERNEL, doc="how many times larger")


def pool_window(shape: Shape, args: Args) -> tuple[tuple[int, int], tuple[int, int], Padding]:
    """Kernel, stride and padding of a pool over `shape`.

    Raises:
        OperationError: if they are not positive, or no symmetric padding exists.
    """
    kernel = positive_pair(args, "kernel")
    stride = kernel if args["stride"] is None else positive_pair(args, "stride")
    padding = resolve_padding(args["pad"], shape, kernel, stride)
    if 2 * max(padding.top, padding.bottom) > kernel[0] or 2 * max(padding.left, padding.right) > kernel[1]:
        raise OperationError(
            "a window would lie outside the map",
            found=f"padding {padding.sides}",
            expected="at most half the window",
        )
    return kernel, stride, padding


def _pool_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    kernel, stride, padding = pool_window(inputs[0], args)
    down = output_size(height, kernel[0], stride[0], padding.top, padding.bottom)
    across = output_size(width, kernel[1], stride[1], padding.left, padding.right)
    if down < 1 or across < 1:
        raise OperationError(
            "the window is larger than the map", found=f"{kernel[0]}x{kernel[1]} on {shape_text(inputs[0])}"
        )
    return ((channels, down, across),)


def _enlarged(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    down, across = positive_pair(args, "factor")
    return ((channels, height * down, width * across),)


def _shuffled(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    factor = positive_integer(args, "factor")
    if channels % factor**2:
        raise OperationError(
            f"`pixel_shuffle({factor})` makes one channel of every {factor**2}",
            found=f"{channels} channels",
            expected=f"a multiple of {factor**2}",
        )
    return ((channels // factor**2, height * factor, width * factor),)


def _pooled(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((inputs[0][0], 1, 1),)


def _pool_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    return (sliding(*pool_window(inputs[0], args)),)


def _repeat_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    down, across = positive_pair(args, "factor")
    return (Reads(ReadWindow(up=down), ReadWindow(up=across)),)


def _bilinear_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    # Whether corners are aligned or not, position i lies within one input position of i // factor.
    rows, columns = (
        ReadWindow(-1, 1, up=factor) if factor > 1 else ReadWindow() for factor in positive_pair(args, "factor")
    )
    return (Reads(rows, columns),)


def _shuffle_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    factor = positive_integer(args, "factor")
    return (Reads(ReadWindow(up=factor), ReadWindow(up=factor)),)


def _avg_pool(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    kernel, stride, padding = pool_window(shapes[0], args)
    top, bottom, left, right = padding.sides
    if any(padding.sides) and switch(args, "count_padding"):
        padded = f"F.pad({operands[0]}, {(left, right, top, bottom)})"
        return f"F.avg_pool2d({padded}, {short(kernel)}, {short(stride)})"
    if any(padding.sides):
        return f"avg_pool({operands[0]}, {kernel}, {stride}, {padding.sides})"
    if kernel == stride:
        return f"F.avg_pool2d({operands[0]}, {short(kernel)})"
    return f"F.avg_pool2d({operands[0]}, {short(kernel)}, {short(stride)})"


def _max_pool(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    kernel, stride, padding = pool_window(shapes[0], args)
    top, bottom, left, right = padding.sides
    if not padding.symmetric:
        padded = f'F.pad({operands[0]}, {(left, right, top, bottom)}, value=float("-inf"))'
        return f"F.max_pool2d({padded}, {short(kernel)}, {short(stride)})"
    return f"F.max_pool2d({operands[0]}, {short(kernel)}, {short(stride)}, {short((top, left))})"


def _nearest(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"F.interpolate({operands[0]}, scale_factor={short(positive_pair(args, 'factor'))})"


def _bilinear(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    factor = short(positive_pair(args, "factor"))
    aligned = ", align_corners=True" if switch(args, "align_corners") else ""
    return f'F.interpolate({operands[0]}, scale_factor={factor}, mode="bilinear"{aligned})'


AVG_POOL = Operation(
    "avg_pool",
    OperationKind.STEP,
    "Mean of each window.",
    (*POOL_ARGUMENTS, COUNT_PADDING),
    _pool_shape,
    expression=_avg_pool,
    locality=Locality.WINDOW,
    reads=_pool_reads,
    channels=Channels.SAME,
    linear=True,
)
MAX_POOL = Operation(
    "max_pool",
    OperationKind.STEP,
    "Maximum of each window.",
    POOL_ARGUMENTS,
    _pool_shape,
    saves=Saves.INPUT,
    expression=_max_pool,
    locality=Locality.WINDOW,
    reads=_pool_reads,
    channels=Channels.SAME,
)
GLOBAL_POOL = Operation(
    "global_pool",
    OperationKind.STEP,
    "Mean of the whole map.",
    (),
    _pooled,
    expression=template("torch.mean({0}, (2, 3), keepdim=True)"),
    locality=Locality.MAP,
    channels=Channels.SAME,
    linear=True,
)
NEAREST = Operation(
    "nearest",
    OperationKind.STEP,
    "Enlarge by repeating each position.",
    (FACTOR,),
    _enlarged,
    expression=_nearest,
    locality=Locality.WINDOW,
    reads=_repeat_reads,
    channels=Channels.SAME,
    linear=True,
)
BILINEAR = Operation(
    "bilinear",
    OperationKind.STEP,
    "Enlarge by bilinear interpolation.",
    (
        FACTOR,
        Argument("align_corners", ArgumentType.SWITCH, False, doc="corner positions stay where they are"),
    ),
    _enlarged,
    expression=_bilinear,
    locality=Locality.WINDOW,
    reads=_bilinear_reads,
    channels=Channels.SAME,
    linear=True,
)
PIXEL_SHUFFLE = Operation(
    "pixel_shuffle",
    OperationKind.STEP,
    "Enlarge by moving groups of channels into space.",
    (Argument("factor", ArgumentType.INTEGER, doc="how many times larger"),),
    _shuffled,
    expression=template("F.pixel_shuffle({0}, {factor})"),
    locality=Locality.WINDOW,
    reads=_shuffle_reads,
    linear=True,
)

OPERATIONS = (AVG_POOL, MAX_POOL, GLOBAL_POOL, NEAREST, BILINEAR, PIXEL_SHUFFLE)
