"""Discrete latents: codebooks (van den Oord 2017, Razavi 2019), finite scalars (Mentzer 2023), signs (Yu 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hvdsl.compiler.catalogue import families
from hvdsl.compiler.catalogue.families import Side
from hvdsl.compiler.catalogue.rules import (
    fraction,
    integers,
    literal_text,
    number,
    positions,
    positive_integer,
    same_shape,
    switch,
    term,
)
from hvdsl.compiler.catalogue.sources import GRID, grid_shape
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    DistributionTraits,
    LayerCall,
    Locality,
    Operation,
    OperationError,
    OperationKind,
)
from hvdsl.compiler.catalogue.weights import FAN_IN, ONES
from hvdsl.compiler.graph import Literal, Parameter, Shape, Term

_MOST_BITS = 20  # a prior over the codes has a logit for each, and their use is counted
_LAYERS = {"ema": "EmaCodebook", "gradient": "GradientCodebook", "linear": "LinearCodebook"}
_ONLY = {"decay": ("ema",), "eps": ("ema",), "expire": ("ema",), "orthogonal": ("gradient",)}
_NOT_LINEAR = ("distance", "start", "shared")


def _check_codes(codes: int, found: str) -> None:
    if codes > 1 << _MOST_BITS:
        raise OperationError(
            f"more than {1 << _MOST_BITS:,} codes are not supported", found=found, expected=f"at most 2^{_MOST_BITS}"
        )


def _codebook_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    fraction(args, "decay")
    for name in ("eps", "expire", "orthogonal"):
        if number(args, name) < 0:
            raise OperationError(f"`{name}` must be at least 0", found=literal_text(args[name]))
    _check_codes(positive_integer(args, "codes"), literal_text(args["codes"]))
    depth = positive_integer(args, "depth")
    if depth == 1 and switch(args, "shared"):
        raise OperationError(
            "`shared` has no meaning for codes of one depth",
            found="shared = yes",
            expected="`depth` of at least 2",
            help="remove `shared`, or say `depth`",
        )
    if depth > 1 and term(args, "distance").name == "cosine":
        raise OperationError(
            "`distance = cosine` has no meaning for codes of several depths",
            found=f"depth = {depth}",
            expected="`depth = 1`",
            help="what a unit vector leaves over is none: take `distance = euclidean`, or a single depth",
        )
    update = term(args, "update").name
    for argument in _CODEBOOK[2:-1]:
        wanted = _ONLY.get(argument.name, ("ema", "gradient") if argument.name in _NOT_LINEAR else tuple(_LAYERS))
        if update not in wanted and args[argument.name] != argument.default:
            raise OperationError(
                f"`{argument.name}` has no meaning for codes with `update = {update}`",
                found=f"{argument.name} = {literal_text(args[argument.name])}",
                expected=f"`update = {' | '.join(wanted)}`",
                help=f"remove `{argument.name}`, or choose another `update`",
            )
    return (grid_shape(positive_integer(args, "dim"), args),)


def _codebook_parameters(inputs: Sequence[Shape], args: Args) -> tuple[Parameter, ...]:
    codes, dim = positive_integer(args, "codes"), positive_integer(args, "dim")
    update, depth = term(args, "update").name, positive_integer(args, "depth")
    tables = 1 if switch(args, "shared") else depth
    shape = (tables, codes, dim)
    kmeans = term(args, "start").name == "kmeans"
    started = [Parameter("started", (1,), Term("zeros"), trainable=False)] if kmeans else []
    if update == "gradient":
        return (Parameter("codes", shape, Term("uniform", (-1 / codes, 1 / codes))), *started)
    if update == "linear":
        fixed = Parameter("codes", shape, Term("gaussian", (dim**-0.5,)), trainable=False)
        return (Parameter("weight", (tables, dim, dim), FAN_IN), fixed)
    return (
        Parameter("codes", shape, Term("gaussian", (1.0,)), trainable=False),
        Parameter("sums", shape, Term("as", ("codes",)), trainable=False),
        # Starting the counts at 0 throws unused codes far away in the first steps; from 1 sums and counts agree.
        Parameter("counts", (tables, codes), ONES, trainable=False),
        *started,
    )


def _codebook_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    update = term(args, "update").name
    stated = [a for a in _CODEBOOK[2:-1] if a.name != "update" and args[a.name] != a.default]
    options = tuple((a.name, _word(args[a.name])) for a in stated)
    return LayerCall(
        _LAYERS[update], (positive_integer(args, "codes"), positive_integer(args, "dim"), outputs[0][1:]), options
    )


def _search_macs(draw: Shape, args: Args) -> int:
    """The distance of every position to every code, at each depth."""
    return positions(draw) * positive_integer(args, "codes") * positive_integer(args, "depth") * draw[0]


def _word(value: Literal) -> Literal:
    return value.name if isinstance(value, Term) else value


def _finite_scalar_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    levels = integers(args, "levels")
    if not levels or min(levels) < 2:
        raise OperationError(
            "every channel needs at least 2 levels", found=literal_text(levels), expected="`finite_scalar(8, 5, 5)`"
        )
    if 2 in levels and not switch(args, "symmetric"):
        raise OperationError(
            "two levels are 0 and -1 unless they are symmetric",
            found=literal_text(levels),
            expected="at least 3 levels, or `symmetric = yes`",
            help="add `symmetric = yes`: levels then lie evenly from -1 to 1",
        )
    _check_codes(prod(levels), " x ".join(map(str, levels)))
    return (grid_shape(len(levels), args),)


def _finite_scalar_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    options = (("symmetric", True),) if switch(args, "symmetric") else ()
    return LayerCall("FiniteScalar", (integers(args, "levels"), outputs[0][1:]), options)


def _lookup_free_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    bits = positive_integer(args, "bits")
    if bits > _MOST_BITS:
        raise OperationError(
            f"codes of more than {_MOST_BITS} bits are not supported", found=str(bits), expected=f"at most {_MOST_BITS}"
        )
    for name in ("entropy", "diversity"):
        if number(args, name) < 0:
            raise OperationError(f"`{name}` must be at least 0", found=literal_text(args[name]))
    if number(args, "inverse_temperature") <= 0:
        raise OperationError("`inverse_temperature` must be above 0", found=literal_text(args["inverse_temperature"]))
    return (grid_shape(bits, args),)


def _lookup_free_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    options = tuple((a.name, args[a.name]) for a in _LOOKUP_FREE[1:-1] if args[a.name] != a.default)
    return LayerCall("LookupFree", (positive_integer(args, "bits"), outputs[0][1:]), options)


def _nearest(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    gradient = term(args, "gradient").name if "gradient" in args else "straight_through"
    option = "" if gradient == "straight_through" else f", gradient={gradient!r}"
    return f"NearestCode({operands[0]}{option})"


_TENSOR = Argument("tensor", ArgumentType.TENSOR, doc="what to quantise")
_GRADIENT = Argument(
    "gradient",
    ArgumentType.WORD,
    Term("straight_through"),
    ("straight_through", "rotation"),
    "of the code to the tensor: copied, or turned and scaled as the tensor would be to become the code",
)
_CODEBOOK = (
    Argument("codes", ArgumentType.INTEGER, doc="how many codes"),
    Argument("dim", ArgumentType.INTEGER, doc="channels of a code"),
    Argument("decay", ArgumentType.NUMBER, 0.99, doc="of the moving averages"),
    Argument("eps", ArgumentType.NUMBER, 1e-5, doc="smooths the counts"),
    Argument(
        "update",
        ArgumentType.WORD,
        Term("ema"),
        tuple(_LAYERS),
        "`ema`: moving averages; `gradient`: the codebook loss; `linear`: fixed codes through a trained linear map",
    ),
    Argument("depth", ArgumentType.INTEGER, 1, doc="codes per position, each for what those before left over"),
    Argument("shared", ArgumentType.SWITCH, False, doc="one table of codes for all depths"),
    Argument(
        "distance",
        ArgumentType.WORD,
        Term("euclidean"),
        ("euclidean", "cosine"),
        "`cosine`: tensor and codes on the unit sphere",
    ),
    Argument(
        "start",
        ArgumentType.WORD,
        Term("standard"),
        ("standard", "kmeans"),
        "first codes: random, or k-means of the first batch",
    ),
    Argument("expire", ArgumentType.NUMBER, 0.0, doc="a code with a lower count, in vectors per step, starts anew"),
    Argument("orthogonal", ArgumentType.NUMBER, 0.0, doc="weight of a penalty on codes that point the same way"),
    GRID,
)
_LOOKUP_FREE = (
    Argument("bits", ArgumentType.INTEGER, doc="channels, of which each is a bit of the code"),
    Argument("spherical", ArgumentType.SWITCH, False, doc="tensor and codes on the unit sphere"),
    Argument("entropy", ArgumentType.NUMBER, 0.1, doc="weight of the loss that keeps codes in use"),
    Argument("diversity", ArgumentType.NUMBER, 1.0, doc="in it, weight of the entropy of the codes' frequencies"),
    Argument("inverse_temperature", ArgumentType.NUMBER, 100.0, doc="in it, how sure the choice of a code is"),
    GRID,
)

CODEBOOK = Operation(
    "codebook",
    OperationKind.DISTRIBUTION,
    "Uniform over code vectors that are learned from what is assigned to them.",
    _CODEBOOK,
    shape=_codebook_shape,
    parameters=_codebook_parameters,
    layer=_codebook_layer,
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(
        families.CODEBOOK,
        Side.PRIOR,
        "UniformCodes",
        lambda _, args: positive_integer(args, "codes"),
        macs=_search_macs,
    ),
)
NEAREST_CODE = Operation(
    "nearest_code",
    OperationKind.DISTRIBUTION,
    "The code nearest to each vector; posterior of `codebook`.",
    (_TENSOR, _GRADIENT),
    same_shape,
    expression=_nearest,
    locality=Locality.PIXEL,
    distribution=DistributionTraits(families.CODEBOOK, Side.POSTERIOR, "NearestCode"),
)
FINITE_SCALAR = Operation(
    "finite_scalar",
    OperationKind.DISTRIBUTION,
    "Uniform over a fixed grid, a number of levels for each channel.",
    (
        Argument("levels", ArgumentType.INTEGER, doc="levels of each channel", many=True),
        Argument("symmetric", ArgumentType.SWITCH, False, doc="levels evenly from -1 to 1, for even numbers too"),
        GRID,
    ),
    shape=_finite_scalar_shape,
    layer=_finite_scalar_layer,
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(
        families.FINITE_SCALAR, Side.PRIOR, "UniformCodes", lambda _, args: prod(integers(args, "levels"))
    ),
)
ROUND_CODE = Operation(
    "round_code",
    OperationKind.DISTRIBUTION,
    "The nearest level in each channel; posterior of `finite_scalar`.",
    (_TENSOR,),
    same_shape,
    expression=_nearest,
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(families.FINITE_SCALAR, Side.POSTERIOR, "NearestCode"),
)
LOOKUP_FREE = Operation(
    "lookup_free",
    OperationKind.DISTRIBUTION,
    "Uniform over all combinations of signs, one bit for each channel.",
    _LOOKUP_FREE,
    shape=_lookup_free_shape,
    layer=_lookup_free_layer,
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(
        families.LOOKUP_FREE, Side.PRIOR, "UniformCodes", lambda _, args: 1 << positive_integer(args, "bits")
    ),
)
SIGN_CODE = Operation(
    "sign_code",
    OperationKind.DISTRIBUTION,
    "The sign of each channel; posterior of `lookup_free`.",
    (_TENSOR, _GRADIENT),
    same_shape,
    expression=_nearest,
    locality=Locality.PIXEL,
    distribution=DistributionTraits(families.LOOKUP_FREE, Side.POSTERIOR, "NearestCode"),
)

OPERATIONS = (CODEBOOK, NEAREST_CODE, FINITE_SCALAR, ROUND_CODE, LOOKUP_FREE, SIGN_CODE)
