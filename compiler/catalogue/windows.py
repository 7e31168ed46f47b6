"""Receptive-field rules that several operations share."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.padding import Padding
from hvdsl.compiler.catalogue.table import Args, Window
from hvdsl.compiler.graph import Shape

EVERYWHERE = Window(everywhere=True)


def whole_map(inputs: Sequence[Shape], args: Args) -> tuple[Window, Window]:
    """Every output position reads every input position."""
    return EVERYWHERE, EVERYWHERE


def sliding(
    kernel: tuple[int, int], stride: tuple[int, int], padding: Padding, dilation: tuple[int, int] = (1, 1)
) -> tuple[Window, Window]:
    """A kernel over a padded map."""
    vertical, horizontal = (
        Window(-before, dilation[axis] * (kernel[axis] - 1) - before, stride[axis])
        for axis, before in enumerate((padding.top, padding.left))
    )
    return vertical, horizontal
