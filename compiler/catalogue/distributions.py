"""Distributions of latents. The shape of a distribution is that of one draw."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue import families
from hvdsl.compiler.catalogue.families import Family
from hvdsl.compiler.catalogue.rules import (
    complete,
    equal,
    integer,
    number,
    optional_term,
    same_shape,
    shape_text,
    template,
    term,
)
from hvdsl.compiler.catalogue.sources import GRID, grid_shape
from hvdsl.compiler.catalogue.table import (
    FROM_ONE,
    FROM_ZERO,
    POSITIVE,
    REQUIRED,
    Args,
    Argument,
    ArgumentType,
    DistributionTraits,
    ExpressionRule,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Required,
    Word,
)
from hvdsl.compiler.graph import Literal, Shape, Term


def _positive(name: str, default: Literal | Required, doc: str) -> Argument:
    return Argument(name, ArgumentType.NUMBER, default, doc=doc, bounds=POSITIVE)


SOFTPLUS = Word("softplus", (_positive("beta", 1.0, "sharpness of the softplus"),))
MEAN = Argument(
    "mean",
    ArgumentType.WORD,
    Term("identity"),
    ("identity", "soft_clamp"),
    "first half to mean: `identity`, `soft_clamp(c)` = c tanh(x / c)",
    calls=(Word("soft_clamp", (_positive("c", REQUIRED, "the bound that is never passed"),)),),
)
SCALE = Argument(
    "scale",
    ArgumentType.WORD,
    Term("exp"),
    ("exp", "logvar", "softplus", "softplus_variance", "softplus_logvar", "bounded"),
    "second half to scale: `exp(soft_clamp = none, add = 0)`, `logvar` (exp of its half: a log-variance), "
    "`softplus(beta = 1)`, `softplus_variance` (square root of softplus), `softplus_logvar` (exp of half the "
    "softplus), `bounded(least, most)` (between the two by a sigmoid)",
    calls=(
        Word(
            "exp",
            (
                _positive("soft_clamp", None, "bound of the logarithm"),
                Argument("add", ArgumentType.NUMBER, 0.0, doc="added to the scale", bounds=FROM_ZERO),
            ),
        ),
        SOFTPLUS,
        Word(
            "bounded",
            (
                _positive("least", REQUIRED, "the scale that is never reached from above"),
                _positive("most", REQUIRED, "the scale that is never reached from below"),
            ),
        ),
    ),
)
DENSITY_FLOOR = Argument(
    "density_floor", ArgumentType.NUMBER, 0.0, doc="added to the variance in log-densities only", bounds=FROM_ZERO
)


def checked_maps(args: Args) -> tuple[Term, Term]:
    """The mean map and the scale map, with all their arguments in place.

    Raises:
        OperationError: for bounds that are the wrong way round.
    """
    mean, scale = _complete(term(args, "mean"), MEAN), _complete(term(args, "scale"), SCALE)
    if scale.name == "bounded":
        least, most = (number(dict(scale.options), bound) for bound in ("least", "most"))
        if least >= most:
            raise OperationError(
                "the bounds of a scale are the wrong way round",
                found=f"`bounded(least = {least:g}, most = {most:g})`",
                expected="`least` below `most`",
            )
    return mean, scale


def _complete(given: Term, argument: Argument) -> Term:
    return Term(given.name, (), tuple(complete(given, argument).items()))


def _location_scale_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    checked_maps(args)
    if not inputs:
        return (grid_shape(_standard_channels(args), args),)
    channels, height, width = inputs[0]
    if channels % 2:
        raise OperationError(
            "the parameters are a mean and a scale for each channel",
            found=shape_text(inputs[0]),
            expected="an even number of channels",
        )
    return ((channels // 2, height, width),)


def _standard_channels(args: Args) -> int:
    standard = optional_term(args, "params")
    if standard is not None and standard.name == "standard":
        return integer(complete(standard, PARAMS), "channels")
    raise OperationError("a distribution needs parameters", expected="a tensor or `standard(channels)`")


def _location_scale_text(cls: str) -> ExpressionRule:
    def rule(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
        if not operands:
            shape = ", ".join(str(n) for n in grid_shape(_standard_channels(args), args))
            return f"{cls}.standard((latents.batch, {shape}), latents.device, latents.dtype)"
        mean, scale = checked_maps(args)
        options = [f"mean={_call(mean)}"] if mean.name != "identity" else []
        options += [f"scale={_call(scale)}"] if scale != _complete(Term("exp"), SCALE) else []
        floor = number(args, "density_floor") if "density_floor" in args else 0
        options += [f"density_floor={floor!r}"] if floor else []
        return f"{cls}({', '.join([*operands, *options])})"

    return rule


def _call(given: Term) -> str:
    """What differs from the defaults; a map of one number without a default takes it by position."""
    if given.name == "soft_clamp":
        return f"soft_clamp({dict(given.options)['c']!r})"
    defaults = {a.name: a.default for a in SCALE.takes(given.name)}
    explicit = [f"{name}={value!r}" for name, value in given.options if value != defaults[name]]
    return f"{given.name}({', '.join(explicit)})"


PARAMS = Argument(
    "params",
    ArgumentType.TENSOR,
    words=("standard",),
    doc="first half mean, second half raw scale; or `standard(channels)`: mean 0 and scale 1",
    calls=(Word("standard", (Argument("channels", ArgumentType.INTEGER, doc="of a draw", bounds=FROM_ONE),)),),
)


def _location_scale(family: Family, runtime_class: str, summary: str, *more: Argument) -> Operation:
    arguments = (PARAMS, MEAN, SCALE, *more, GRID)
    return Operation(
        family.name,
        OperationKind.DISTRIBUTION,
        summary,
        arguments,
        _location_scale_shape,
        expression=_location_scale_text(runtime_class),
        locality=Locality.PIXEL,
        distribution=DistributionTraits(family, runtime_class=runtime_class),
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
    OperationKind.DISTRIBUTION,
    "A bit in each element, drawn with straight-through gradients.",
    (Argument("logits", ArgumentType.TENSOR, doc="log-odds of 1"),),
    same_shape,
    expression=template("StraightThroughBernoulli({0})"),
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(families.BERNOULLI, runtime_class="StraightThroughBernoulli"),
)
CATEGORICAL = Operation(
    "categorical",
    OperationKind.DISTRIBUTION,
    "One of as many classes as channels at each position: a one-hot vector, with straight-through gradients.",
    (Argument("logits", ArgumentType.TENSOR, doc="a logit for each class"),),
    same_shape,
    expression=template("StraightThroughCategorical({0})"),
    locality=Locality.PIXEL,
    distribution=DistributionTraits(
        families.CATEGORICAL, runtime_class="StraightThroughCategorical", classes=lambda shape, _: shape[0]
    ),
)
RELATIVE = Operation(
    "relative",
    OperationKind.DISTRIBUTION,
    "`a` relative to `t`: means add, scales multiply (after the maps).",
    _PAIR,
    _pair_shape,
    expression=template("relative({0}, {1})"),
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(couples=(families.NORMAL, families.LAPLACE, families.LOGISTIC)),
)
PRODUCT = Operation(
    "product",
    OperationKind.DISTRIBUTION,
    "Precision-weighted product of two normal distributions.",
    _PAIR,
    _pair_shape,
    expression=template("product({0}, {1})"),
    locality=Locality.ELEMENT,
    distribution=DistributionTraits(couples=(families.NORMAL,)),
)

OPERATIONS = (NORMAL, LAPLACE, LOGISTIC, BERNOULLI, CATEGORICAL, RELATIVE, PRODUCT)
