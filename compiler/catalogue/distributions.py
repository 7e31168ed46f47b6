"""Distributions of latents. The shape of a distribution is that of one draw."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue import families
from hvdsl.compiler.catalogue.expressions import template
from hvdsl.compiler.catalogue.families import Family
from hvdsl.compiler.catalogue.shapes import equal, same, show
from hvdsl.compiler.catalogue.sources import GRID, grid_shape
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    Distribution,
    ExpressionRule,
    Kind,
    Locality,
    Operation,
    OperationError,
)
from hvdsl.compiler.catalogue.values import bind, number, optional_term, term, text
from hvdsl.compiler.graph import Shape, Term

MEAN = Argument(
    "mean",
    ArgumentType.WORD,
    Term("identity"),
    ("identity", "soft_clamp"),
    "first half to mean: `identity`, `soft_clamp(c)` = c tanh(x / c)",
)
SCALE = Argument(
    "scale",
    ArgumentType.WORD,
    Term("exp"),
    ("exp", "softplus", "softplus_variance", "softplus_logvar"),
    "second half to scale: `exp(soft_clamp = none, add = 0)`, `softplus(beta = 1)`, "
    "`softplus_variance` (square root of softplus), `softplus_logvar` (exp of half the softplus)",
)
DENSITY_FLOOR = Argument("density_floor", ArgumentType.NUMBER, 0.0, doc="added to the variance in log-densities only")

_MEANS: dict[str, tuple[tuple[str, float | None], ...]] = {"identity": (), "soft_clamp": (("c", None),)}
_SCALES: dict[str, tuple[tuple[str, float | None], ...]] = {
    "exp": (("soft_clamp", None), ("add", 0.0)),
    "softplus": (("beta", 1.0),),
    "softplus_variance": (),
    "softplus_logvar": (),
}


def checked_maps(args: Args) -> tuple[Term, Term]:
    """The mean map and the scale map, with all their arguments in place.

    Raises:
        OperationError: for arguments that a map does not take.
    """
    mean, scale = term(args, "mean"), term(args, "scale")
    return _map(mean, _MEANS[mean.name], len(_MEANS[mean.name])), _map(scale, _SCALES[scale.name], 0)


def check_map(argument: Argument, given: Term) -> None:
    """Check one map by itself, for `MEAN` or `SCALE`.

    Raises:
        OperationError: for arguments that the map does not take.
    """
    signatures, required = (_MEANS, 1) if argument is MEAN else (_SCALES, 0)
    _map(given, signatures[given.name], min(required, len(signatures[given.name])))


def _map(given: Term, signature: tuple[tuple[str, float | None], ...], required: int) -> Term:
    values = bind(given, signature, required)
    for name, value in values.items():
        if value is None and name == "soft_clamp":
            continue
        low = 0 if name != "add" else -1e-300
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= low:
            raise OperationError(f"`{name}` of `{given.name}` must be a positive number", found=text(value))
    return Term(given.name, (), tuple(values.items()))


def _location_scale_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    checked_maps(args)
    if "density_floor" in args and number(args, "density_floor") < 0:
        raise OperationError("`density_floor` must be at least 0", found=text(args["density_floor"]))
    if not inputs:
        return (grid_shape(_standard_channels(args), args),)
    channels, height, width = inputs[0]
    if channels % 2:
        raise OperationError(
            "the parameters are a mean and a scale for each channel",
            found=show(inputs[0]),
            expected="an even number of channels",
        )
    return ((channels // 2, height, width),)


def _standard_channels(args: Args) -> int:
    standard = optional_term(args, "params")
    if standard is not None and standard.name == "standard":
        channels = bind(standard, (("channels", None),), required=1)["channels"]
        if isinstance(channels, int) and not isinstance(channels, bool) and channels > 0:
            return channels
    raise OperationError("a distribution needs parameters", expected="a tensor or `standard(channels)`")


def _location_scale_text(cls: str) -> ExpressionRule:
    def rule(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
        if not operands:
            shape = ", ".join(str(n) for n in grid_shape(_standard_channels(args), args))
            return f"{cls}.standard((latents.batch, {shape}), latents.device, latents.dtype)"
        mean, scale = checked_maps(args)
        options = [f"mean={_call(mean)}"] if mean.name != "identity" else []
        options += [f"scale={_call(scale)}"] if scale != _map(Term("exp"), _SCALES["exp"], 0) else []
        floor = number(args, "density_floor") if "density_floor" in args else 0
        options += [f"density_floor={floor!r}"] if floor else []
        return f"{cls}({', '.join([*operands, *options])})"

    return rule


def _call(given: Term) -> str:
    """What differs from the defaults; a map of one number without a default takes it by position."""
    defaults = dict(_MEANS.get(given.name, ()) or _SCALES.get(given.name, ()))
    if given.name == "soft_clamp":
        return f"soft_clamp({dict(given.options)['c']!r})"
    said = [f"{name}={value!r}" for name, value in given.options if value != defaults[name]]
    return f"{given.name}({', '.join(said)})"


def _location_scale(family: Family, runtime_class: str, summary: str, *more: Argument) -> Operation:
    arguments = (
        Argument(
            "params",
            ArgumentType.TENSOR,
            words=("standard",),
            doc="first half mean, second half raw scale; or `standard(channels)`: mean 0 and scale 1",
        ),
        MEAN,
        SCALE,
        *more,
        GRID,
    )
    return Operation(
        family.name,
        Kind.DISTRIBUTION,
        summary,
        arguments,
        _location_scale_shape,
        expression=_location_scale_text(runtime_class),
        locality=Locality.PIXEL,
        distribution=Distribution(family, runtime_class=runtime_class),
    )


def _pair_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return (equal(inputs, "the two distributions"),)


_PAIR = (
    Argument("a", ArgumentType.DISTRIBUTION, doc="one distribution"),
    Argument("t", ArgumentType.DISTRIBUTION, doc="the other, often the prior"),
)

NORMAL = _location_scale(families.NORMAL, "Normal", "Normal distribution in each element.", DENSITY_FLOOR)
LAPLACE = _location_scale(
    families.LAPLACE,
    "Laplace",
    "Laplace distribution in each element; the scale is its mean absolute deviation.",
)
LOGISTIC = _location_scale(
    families.LOGISTIC,
    "Logistic",
    "Logistic distribution in each element; its rate is one sample's log q - log p.",
)
BERNOULLI = Operation(
    "bernoulli",
    Kind.DISTRIBUTION,
    "A bit in each element, drawn with straight-through gradients.",
    (Argument("logits", ArgumentType.TENSOR, doc="log-odds of 1"),),
    same,
    expression=template("StraightThroughBernoulli({0})"),
    locality=Locality.ELEMENT,
    distribution=Distribution(families.BERNOULLI, runtime_class="StraightThroughBernoulli"),
)
CATEGORICAL = Operation(
    "categorical",
    Kind.DISTRIBUTION,
    "One of as many classes as channels at each position: a one-hot vector, with straight-through gradients.",
    (Argument("logits", ArgumentType.TENSOR, doc="a logit for each class"),),
    same,
    expression=template("StraightThroughCategorical({0})"),
    locality=Locality.PIXEL,
    distribution=Distribution(
        families.CATEGORICAL, runtime_class="StraightThroughCategorical", classes=lambda shape, _: shape[0]
    ),
)
RELATIVE = Operation(
    "relative",
    Kind.DISTRIBUTION,
    "`a` relative to `t`: means add, scales multiply (after the maps).",
    _PAIR,
    _pair_shape,
    expression=template("relative({0}, {1})"),
    locality=Locality.ELEMENT,
    distribution=Distribution(couples=(families.NORMAL, families.LAPLACE, families.LOGISTIC)),
)
PRODUCT = Operation(
    "product",
    Kind.DISTRIBUTION,
    "Precision-weighted product of two normal distributions.",
    _PAIR,
    _pair_shape,
    expression=template("product({0}, {1})"),
    locality=Locality.ELEMENT,
    distribution=Distribution(couples=(families.NORMAL,)),
)

OPERATIONS = (NORMAL, LAPLACE, LOGISTIC, BERNOULLI, CATEGORICAL, RELATIVE, PRODUCT)
