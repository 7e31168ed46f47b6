"""Operations that make one tensor of several."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.expressions import template
from hvdsl.compiler.catalogue.shapes import broadcast, equal, show
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    Kind,
    Locality,
    Operation,
    OperationError,
)
from hvdsl.compiler.graph import Shape

TENSORS = Argument("tensors", ArgumentType.TENSOR, doc="what to join; `none` is left out", many=True)


def _concat_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    if len({shape[1:] for shape in inputs}) != 1:
        raise OperationError(
            "`concat` joins maps of one size",
            found=", ".join(show(shape) for shape in inputs),
            expected="equal heights and widths",
        )
    return ((sum(shape[0] for shape in inputs), *inputs[0][1:]),)


def _concat_channels(inputs: Sequence[Shape], args: Args) -> tuple[tuple[tuple[int, ...], ...], ...]:
    nothing = [0] * len(inputs)
    return (
        tuple((*nothing[:i], 1 << c, *nothing[i + 1 :]) for i, shape in enumerate(inputs) for c in range(shape[0])),
    )


def _mean_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return (equal(inputs, "what `mean` joins"),)


def _concat(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"torch.cat(({', '.join(operands)},), 1)"


def _mean(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"({' + '.join(f'({operand})' for operand in operands)}) / {len(operands)}"


CONCAT = Operation(
    "concat",
    Kind.JOIN,
    "Put the channels of several tensors one after the other.",
    (TENSORS,),
    _concat_shape,
    expression=_concat,
    locality=Locality.PIXEL,
    channels=_concat_channels,
    linear=True,
)
MEAN = Operation(
    "mean",
    Kind.JOIN,
    "Mean of several tensors of one shape, element by element.",
    (TENSORS,),
    _mean_shape,
    expression=_mean,
    locality=Locality.ELEMENT,
    linear=True,
)
ADD = Operation(
    "add",
    Kind.STEP,
    "Add another tensor: the same as `+`.",
    (Argument("other", ArgumentType.TENSOR, doc="what to add; `learned(init)` takes the shape of what came in"),),
    broadcast,
    expression=template("({0}) + ({1})"),
    locality=Locality.ELEMENT,
    linear=True,
    glyph="+",
)

OPERATIONS = (CONCAT, MEAN, ADD)
