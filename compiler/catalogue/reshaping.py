"""Operations that move values and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hvdsl.compiler.catalogue.rules import (
    element_count,
    integer,
    integers,
    positive_integer,
    same_shape,
    shape_text,
    template,
)
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    AtRest,
    Channels,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Reads,
    ReadWindow,
)
from hvdsl.compiler.graph import Shape

SIDES = ("top", "bottom", "left", "right")


def sides(args: Args) -> tuple[int, int, int, int]:
    """Rows and columns at the (top, bottom, left, right).

    Raises:
        OperationError: if one is negative.
    """
    top, bottom, left, right = (integer(args, side) for side in SIDES)
    if min(top, bottom, left, right) < 0:
        raise OperationError(
            "rows and columns are counted from 0",
            found=str((top, bottom, left, right)),
            expected="0 or more on each side",
        )
    return top, bottom, left, right


def _crop_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    top, bottom, left, right = sides(args)
    if top + bottom >= height or left + right >= width:
        raise OperationError(
            "`crop` leaves nothing",
            found=f"{top + bottom} rows and {left + right} columns of {shape_text(inputs[0])}",
        )
    return ((channels, height - top - bottom, width - left - right),)


def _pad_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    top, bottom, left, right = sides(args)
    return ((channels, height + top + bottom, width + left + right),)


def _flatten_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((element_count(inputs[0]), 1, 1),)


def _reshape_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    lengths = integers(args, "shape")
    if len(lengths) != 3 or min(lengths) < 1:
        raise OperationError("a shape has channels, height and width", found=str(lengths), expected="as `1x28x28`")
    shape = (lengths[0], lengths[1], lengths[2])
    if element_count(shape) != element_count(inputs[0]):
        raise OperationError(
            "`reshape` keeps the number of values",
            found=f"{shape_text(inputs[0])}, which is {element_count(inputs[0])} values",
            expected=f"{shape_text(shape)}, which is {element_count(shape)}",
        )
    return (shape,)


def _pad_channels_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    out = positive_integer(args, "out")
    if out < channels:
        raise OperationError(
            "`pad_channels` cannot take channels away",
            found=f"{channels} channels",
            expected=f"at most {out}",
            help="`first_channels` keeps the first ones",
        )
    return ((out, height, width),)


def _first_channels_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    out = positive_integer(args, "out")
    if out > channels:
        raise OperationError(
            "there are not that many channels",
            found=f"{channels} channels",
            expected=f"at least {out}",
            help="`pad_channels` adds channels of zeros",
        )
    return ((out, height, width),)


def _split_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    sizes = integers(args, "sizes")
    if not sizes or min(sizes) < 1 or sum(sizes) != channels:
        raise OperationError(
            "the parts of `split` must make up all channels",
            found=f"{' + '.join(map(str, sizes)) or 'nothing'} = {sum(sizes)} of {shape_text(inputs[0])}",
            expected=f"positive numbers with the sum {channels}",
        )
    return tuple((n, height, width) for n in sizes)


_MOST_PARTS = 4096


def _chunk_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    channels, height, width = inputs[0]
    n = positive_integer(args, "n")
    if channels % n:
        raise OperationError(
            "`chunk` makes equal parts",
            found=f"{channels} channels in {n} parts",
            expected=f"a multiple of {n}",
        )
    if n > _MOST_PARTS:
        raise OperationError(
            "`chunk` makes too many parts", found=f"{n:,} parts", expected=f"at most {_MOST_PARTS:,}, each with a name"
        )
    return ((channels // n, height, width),) * n


def _crop_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    top, _, left, _ = sides(args)
    return (_moved(top, left),)


def _pad_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    top, _, left, _ = sides(args)
    return (_moved(-top, -left),)


def _shift_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    return (_moved(-integer(args, "down"), -integer(args, "right")),)


def _moved(row: int, column: int) -> Reads:
    return Reads(ReadWindow(row, row), ReadWindow(column, column))


def _in_order(inputs: Sequence[Shape], args: Args) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The channels from the first on; what is beyond them are zeros."""
    return (tuple((1 << c if c < inputs[0][0] else 0,) for c in range(positive_integer(args, "out"))),)


def _split_channels(inputs: Sequence[Shape], args: Args) -> tuple[tuple[tuple[int, ...], ...], ...]:
    sizes = (
        integers(args, "sizes")
        if "sizes" in args
        else (inputs[0][0] // positive_integer(args, "n"),) * positive_integer(args, "n")
    )
    starts = accumulate(sizes, initial=0)
    return tuple(tuple((1 << start + c,) for c in range(n)) for start, n in zip(starts, sizes, strict=False))


def _crop(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    top, bottom, left, right = sides(args)
    rows, columns = (f"{before or ''}:{-after or ''}" for before, after in ((top, bottom), (left, right)))
    return f"({operands[0]})[:, :, {rows}, {columns}]"


def _pad(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    top, bottom, left, right = sides(args)
    return f"F.pad({operands[0]}, {(left, right, top, bottom)})"


def _reshape(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"({operands[0]}).reshape(-1, {', '.join(map(str, integers(args, 'shape')))})"


def _pad_channels(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"F.pad({operands[0]}, {(0, 0, 0, 0, 0, positive_integer(args, 'out') - shapes[0][0])})"


CHANNELS_LAST = Operation(
    "channels_last",
    OperationKind.INTERNAL,
    "The same map, stored channel by channel within each pixel.",
    (),
    shape=same_shape,
    expression=template("{0}.contiguous(memory_format=torch.channels_last)"),
    locality=Locality.ELEMENT,
    at_rest=AtRest.IDENTITY,
    linear=True,
)
CROP = Operation(
    "crop",
    OperationKind.STEP,
    "Take away rows and columns.",
    tuple(Argument(side, ArgumentType.INTEGER, 0, doc=f"how many at the {side}") for side in SIDES),
    _crop_shape,
    expression=_crop,
    locality=Locality.WINDOW,
    reads=_crop_reads,
    channels=Channels.SAME,
    linear=True,
    view=True,
)
PAD = Operation(
    "pad",
    OperationKind.STEP,
    "Add rows and columns of zeros.",
    tuple(Argument(side, ArgumentType.INTEGER, 0, doc=f"how many at the {side}") for side in SIDES),
    _pad_shape,
    expression=_pad,
    locality=Locality.WINDOW,
    reads=_pad_reads,
    channels=Channels.SAME,
    linear=True,
)
SHIFT = Operation(
    "shift",
    OperationKind.STEP,
    "Move the map; zeros come in, what leaves is lost.",
    (
        Argument("down", ArgumentType.INTEGER, 0, doc="rows; up if negative"),
        Argument("right", ArgumentType.INTEGER, 0, doc="columns; to the left if negative"),
    ),
    same_shape,
    expression=template("shift({0}, {down}, {right})"),
    locality=Locality.WINDOW,
    reads=_shift_reads,
    channels=Channels.SAME,
    linear=True,
)
FLATTEN = Operation(
    "flatten",
    OperationKind.STEP,
    "All values as channels of a 1x1 map.",
    (),
    _flatten_shape,
    expression=template("({0}).flatten(1)[:, :, None, None]"),
    locality=Locality.MAP,
    linear=True,
    view=True,
)
RESHAPE = Operation(
    "reshape",
    OperationKind.STEP,
    "The same values in another shape, in order of channels, rows, columns.",
    (Argument("shape", ArgumentType.SHAPE, doc="`1x28x28`"),),
    _reshape_shape,
    expression=_reshape,
    locality=Locality.MAP,
    linear=True,
    view=True,
)
PAD_CHANNELS = Operation(
    "pad_channels",
    OperationKind.STEP,
    "Append channels of zeros.",
    (Argument("out", ArgumentType.INTEGER, doc="channels of the output"),),
    _pad_channels_shape,
    expression=_pad_channels,
    locality=Locality.PIXEL,
    channels=_in_order,
    linear=True,
)
FIRST_CHANNELS = Operation(
    "first_channels",
    OperationKind.STEP,
    "Keep the first channels.",
    (Argument("out", ArgumentType.INTEGER, doc="channels of the output"),),
    _first_channels_shape,
    expression=template("({0}).narrow(1, 0, {out})"),
    locality=Locality.PIXEL,
    channels=_in_order,
    linear=True,
    view=True,
)
SPLIT = Operation(
    "split",
    OperationKind.STEP,
    "Cut the channels into a tuple of parts.",
    (Argument("sizes", ArgumentType.INTEGER, doc="channels of each part", many=True),),
    _split_shape,
    expression=template("({0}).split({sizes}, 1)"),
    locality=Locality.PIXEL,
    channels=_split_channels,
    linear=True,
    view=True,
    glyph="",
)
CHUNK = Operation(
    "chunk",
    OperationKind.STEP,
    "Cut the channels into a tuple of equal parts.",
    (Argument("n", ArgumentType.INTEGER, doc="how many parts"),),
    _chunk_shape,
    expression=template("({0}).chunk({n}, 1)"),
    locality=Locality.PIXEL,
    channels=_split_channels,
    linear=True,
    view=True,
    glyph="",
)

OPERATIONS = (CHANNELS_LAST, CROP, PAD, SHIFT, FLATTEN, RESHAPE, PAD_CHANNELS, FIRST_CHANNELS, SPLIT, CHUNK)
