"""Operations that change the size of the map."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.graph import Shape, Term
from hvdsl.compiler.operations.padding import Padding, output_size, resolve
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
from hvdsl.compiler.operations.values import positive, positive_pair

POOL_ARGUMENTS = (
    Argument("kernel", ArgumentType.KERNEL, doc="size of the window"),
    Argument("stride", ArgumentType.KERNEL, None, doc="step of the window; by default its size"),
    Argument(
        "pad",
        ArgumentType.WORD,
        Term("same"),
        ("same", "tf", "none"),
        "where the window passes the border only what is inside counts; forms as for `conv`",
    ),
)
FACTOR = Argument("factor", ArgumentType.KERNEL, doc="how many times larger")


def pool_window(shape: Shape, args: Args) -> tuple[tuple[int, int], tuple[int, int], Padding]:
    """Kernel, stride and padding of a pool over `shape`.

    Raises:
        OperationError: if they are not positive, or no symmetric padding exists.
    """
    kernel = positive_pair(args, "kernel")
    stride = kernel if args["stride"] is None else positive_pair(args, "stride")
    padding = resolve(args["pad"], shape, kernel, stride)
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
            "the window is larger than the map", found=f"{kernel[0]}x{kernel[1]} on {show(inputs[0])}"
        )
    return ((channels, down, across),)


def _enlarged(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    down, across = positive_pair(args, "factor")
    return ((channels, height * down, width * across),)


def _shuffled(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    factor = positive(args, "factor")
    if channels % factor**2:
        raise OperationError(
            f"`pixel_shuffle({factor})` makes one channel of every {factor**2}",
            found=f"{channels} channels",
            expected=f"a multiple of {factor**2}",
        )
    return ((channels // factor**2, height * factor, width * factor),)


def _pooled(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((inputs[0][0], 1, 1),)


OPERATIONS = (
    Operation("avg_pool", Kind.STEP, "Mean of each window.", POOL_ARGUMENTS, _pool_shape),
    Operation(
        "max_pool", Kind.STEP, "Maximum of each window.", POOL_ARGUMENTS, _pool_shape, saves=Saves.INPUT
    ),
    Operation("global_pool", Kind.STEP, "Mean of the whole map.", (), _pooled),
    Operation("nearest", Kind.STEP, "Enlarge by repeating each position.", (FACTOR,), _enlarged),
    Operation(
        "bilinear",
        Kind.STEP,
        "Enlarge by bilinear interpolation.",
        (
            FACTOR,
            Argument("align_corners", ArgumentType.SWITCH, False, doc="corner positions stay where they are"),
        ),
        _enlarged,
    ),
    Operation(
        "pixel_shuffle",
        Kind.STEP,
        "Enlarge by moving groups of channels into space.",
        (Argument("factor", ArgumentType.INTEGER, doc="how many times larger"),),
        _shuffled,
    ),
)
