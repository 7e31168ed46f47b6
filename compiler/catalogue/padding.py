"""Padding as the language says it: resolved to (top, bottom, left, right) and a way to fill."""

from __future__ import annotations

from typing import NamedTuple

from hvdsl.compiler.catalogue.rules import literal_text, shape_text
from hvdsl.compiler.catalogue.table import Argument, ArgumentType, OperationError, Reads, ReadWindow
from hvdsl.compiler.graph import Literal, Shape, Term

SIDES = Argument(
    "sides",
    ArgumentType.TUPLE,
    items=tuple(Argument(side, ArgumentType.INTEGER) for side in ("top", "bottom", "left", "right")),
)
"""Padding side by side: `pad = (1, 1, 2, 2)`."""
PAD = Argument(
    "pad",
    ArgumentType.WORD,
    Term("same"),
    ("same", "tf", "none", "reflect"),
    "zeros: `same` on both sides alike; `tf` the odd one at the bottom and right; `none`; `reflect`; "
    "`(top, bottom, left, right)`",
    other=SIDES,
)


class Padding(NamedTuple):
    """Elements added around a map."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    reflect: bool = False

    @property
    def symmetric(self) -> bool:
        return self.top == self.bottom and self.left == self.right

    @property
    def sides(self) -> tuple[int, int, int, int]:
        return self.top, self.bottom, self.left, self.right


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    """Length of a convolved axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def resolve_padding(
    pad: Literal,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Padding:
    """The padding of a window over `shape`.

    `same` and `tf` give ceil(size / stride); `same` adds as much before as after, `tf` the odd one after.
    `reflect` mirrors by the amounts of `same`.

    Raises:
        OperationError: if `same` is impossible, or the argument is no padding.
    """
    if isinstance(pad, tuple):
        return _given(pad)
    name = pad.name if isinstance(pad, Term) else pad
    axes = list(zip(shape[1:], kernel, stride, dilation, strict=True))
    if name is None or name == "none":
        return Padding()
    if name == "tf":
        (top, bottom), (left, right) = (_tf(*axis) for axis in axes)
        return Padding(top, bottom, left, right)
    vertical, horizontal = (_symmetric(*axis) for axis in axes)
    if name not in ("same", "reflect"):
        raise OperationError(
            "this is no padding",
            found=literal_text(pad),
            expected="`same`, `tf`, `none`, `reflect` or `(top, bottom, left, right)`",
        )
    if vertical is None or horizontal is None:
        raise OperationError(
            f"a {kernel[0]}x{kernel[1]} window with stride {_stride(stride)} has no symmetric padding here",
            found=f"a map of {shape[1]}x{shape[2]}",
            expected="as much padding before as after, giving ceil(size / stride)",
            help="say `pad = tf`, `pad = none` or `pad = (top, bottom, left, right)`",
        )
    if name == "reflect" and (vertical >= shape[1] or horizontal >= shape[2]):
        raise OperationError(
            "the map is too small to reflect", found=shape_text(shape), expected="a map larger than its padding"
        )
    return Padding(vertical, vertical, horizontal, horizontal, reflect=name == "reflect")


def _stride(stride: tuple[int, int]) -> str:
    return str(stride[0]) if stride[0] == stride[1] else f"{stride[0]}x{stride[1]}"


def _given(pad: tuple[Literal, ...]) -> Padding:
    sides = [n for n in pad if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    if len(sides) != 4 or len(pad) != 4:
        raise OperationError(
            "this is no padding", found=literal_text(pad), expected="`(top, bottom, left, right)`, each 0 or more"
        )
    top, bottom, left, right = sides
    return Padding(top, bottom, left, right)


def _symmetric(size: int, kernel: int, stride: int, dilation: int) -> int | None:
    reach = dilation * (kernel - 1) + 1
    p = max(0, -((stride - reach) // 2))  # ceil((reach - stride) / 2)
    return p if output_size(size, kernel, stride, p, p, dilation) == -(-size // stride) else None


def _tf(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    reach = dilation * (kernel - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def sliding(
    kernel: tuple[int, int], stride: tuple[int, int], padding: Padding, dilation: tuple[int, int] = (1, 1)
) -> Reads:
    """A kernel over a padded map."""
    rows, columns = (
        ReadWindow(-before, dilation[axis] * (kernel[axis] - 1) - before, stride[axis])
        for axis, before in enumerate((padding.top, padding.left))
    )
    return Reads(rows, columns, mirrored=padding.reflect)
