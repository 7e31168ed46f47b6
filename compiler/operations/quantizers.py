"""Discrete latents: codebooks (van den Oord 2017, Razavi 2019), finite scalars (Mentzer 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.graph import Parameter, Shape, Term
from hvdsl.compiler.operations.inits import ONES
from hvdsl.compiler.operations.shapes import same
from hvdsl.compiler.operations.sources import GRID, grid_shape
from hvdsl.compiler.operations.table import Args, Argument, ArgumentType, Kind, Operation, OperationError
from hvdsl.compiler.operations.values import fraction, integers, number, positive, text


def _codebook_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    fraction(args, "decay")
    if number(args, "eps") < 0:
        raise OperationError("`eps` must be at least 0", found=text(args["eps"]))
    positive(args, "codes")
    return (grid_shape(positive(args, "dim"), args),)


def _codebook_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    codes, dim = positive(args, "codes"), positive(args, "dim")
    gaussian = Term("gaussian", (1.0,))
    return (
        Parameter("codes", (codes, dim), gaussian, trainable=False),
        Parameter("sums", (codes, dim), Term("as", ("codes",)), trainable=False),
        # Starting the counts at 0 throws unused codes far away in the first steps; from 1 sums and counts
        # agree.
        Parameter("counts", (codes,), ONES, trainable=False),
    )


def _finite_scalar_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    levels = integers(args, "levels")
    if not levels or min(levels) < 2:
        raise OperationError(
            "every channel needs at least 2 levels", found=text(levels), expected="`finite_scalar(8, 5, 5)`"
        )
    return (grid_shape(len(levels), args),)


_TENSOR = (Argument("tensor", ArgumentType.TENSOR, doc="what to quantise"),)

OPERATIONS = (
    Operation(
        "codebook",
        Kind.DISTRIBUTION,
        "Uniform over code vectors that follow moving averages of what is assigned to them.",
        (
            Argument("codes", ArgumentType.INTEGER, doc="how many codes"),
            Argument("dim", ArgumentType.INTEGER, doc="channels of a code"),
            Argument("decay", ArgumentType.NUMBER, 0.99, doc="of the moving averages"),
            Argument("eps", ArgumentType.NUMBER, 1e-5, doc="smooths the counts"),
            GRID,
        ),
        shape=_codebook_shape,
        parameters=_codebook_parameters,
    ),
    Operation(
        "nearest_code",
        Kind.DISTRIBUTION,
        "The code nearest to each vector; posterior of `codebook`.",
        _TENSOR,
        same,
    ),
    Operation(
        "finite_scalar",
        Kind.DISTRIBUTION,
        "Uniform over a fixed grid, a number of levels for each channel.",
        (Argument("levels", ArgumentType.INTEGER, doc="levels of each channel", many=True), GRID),
        shape=_finite_scalar_shape,
    ),
    Operation(
        "round_code",
        Kind.DISTRIBUTION,
        "The nearest level in each channel; posterior of `finite_scalar`.",
        _TENSOR,
        same,
    ),
)
