"""The likelihoods of the language: an entry declares arguments, channels, parameters and the units that fit.

A likelihood scores the target image given what the decoder ends with. A `default normal` of the spec does not
reach one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hvdsl.compiler.catalogue.distributions import MEAN, SCALE, SOFTPLUS
from hvdsl.compiler.catalogue.table import REQUIRED, Argument, ArgumentType, Bounds, Required, Word
from hvdsl.compiler.graph import Literal, Parameter, Shape, Term
from hvdsl.grammar.record import Record, record

Args = Mapping[str, Literal]

NATS = ("nats_per_image", "nats_per_dim")


@record
class LikelihoodEntry(Record):
    """One likelihood of the language."""

    name: str
    summary: str  # one line of the language reference
    arguments: tuple[Argument, ...]
    channels: Callable[[int, Args], int]  # image channels, arguments -> channels that the decoder ends with
    parameters: Callable[[Shape, Args], tuple[Parameter, ...]]
    units: tuple[str, ...]  # objective units that fit
    range: tuple[float, float] | None = None  # of the target; None: any
    discrete: bool = False  # scores bins: `bits` speaks of the target's grid
    runtime: str = ""  # its class there, where that has another name


def _per_image_channel(channels: int, args: Args) -> int:
    return channels


def _no_parameters(shape: Shape, args: Args) -> tuple[Parameter, ...]:
    return ()


def _mixture_channels(channels: int, args: Args) -> int:
    """Per component a weight; per channel a mean and a log-scale; per pair of channels a coefficient."""
    components = args["n"]
    if not isinstance(components, int):
        raise TypeError("the number of components is checked before")
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


def _logistic_channels(channels: int, args: Args) -> int:
    return channels if args["scale"] == Term("learned") else 2 * channels


def _logistic_parameters(shape: Shape, args: Args) -> tuple[Parameter, ...]:
    """One log-scale for all pixels and channels, where it is learned (Kingma et al. 2016, appendix)."""
    return (Parameter("log_scale", (1,), Term("zeros")),) if args["scale"] == Term("learned") else ()


def _categorical_channels(channels: int, args: Args) -> int:
    bits = args["bits"]
    if not isinstance(bits, int):
        raise TypeError("the number of bits is checked before")
    return channels * (1 << bits)


def _integer(name: str, default: Literal | Required, doc: str, least: int, most: int) -> Argument:
    return Argument(name, ArgumentType.INTEGER, default, doc=doc, bounds=Bounds(least, most))


def _number(name: str, default: Literal | Required, doc: str) -> Argument:
    return Argument(name, ArgumentType.NUMBER, default, doc=doc)


def _word(name: str, default: Literal | Required, words: tuple[str, ...], doc: str) -> Argument:
    calls = (SOFTPLUS,) if "softplus" in words else ()
    return Argument(name, ArgumentType.WORD, default, words, doc, calls=calls)


_BITS = _integer("bits", None, "bits of the target's grid; by default what the target's distinct values say", 1, 16)

_OPEN = "`open`: the outermost bins do not take the tails"


def _discretized(bins: tuple[str, ...], doc: str) -> tuple[Argument, ...]:
    return (
        _word(
            "scale",
            Term("learned"),
            ("learned", "exp", "softplus"),
            "one `learned` scale, or one per pixel and channel",
        ),
        _number("bin", None, "width of a bin, in the target's units; by default the target's spacing"),
        _word("bins", Term("exact"), bins, doc),
        _BITS,
        _number("lower", -7, "least log-scale"),
        _number("at_least", 0, "added to a bin's probability before the logarithm"),
    )


_ENTRIES = (
    LikelihoodEntry(
        "discretized_logistic_mixture",
        "mixture of discretised logistics, channels coupled by coefficients (Salimans et al. 2017)",
        (
            _integer("n", REQUIRED, "components", 1, 1000),
            _BITS,
            _word(
                "bins",
                Term("exact"),
                ("exact", "published"),
                "`exact`: the bin's probability, tails included; `published`: the released code's form",
            ),
            _number("lower", -7, "least log-scale"),
            _number("lower_edge", -0.999, "`published`: targets under it take the whole lower tail"),
            _number("upper_edge", 0.999, "`published`: targets over it take the whole upper tail"),
            _word("scale", Term("exp"), ("exp", "softplus"), "raw value to scale: `exp` or `softplus(beta)`"),
        ),
        _mixture_channels,
        _no_parameters,
        NATS,
        range=(-1.0, 1.0),
        discrete=True,
    ),
    LikelihoodEntry(
        "discretized_logistic",
        "one discretised logistic per pixel and channel (Kingma et al. 2016)",
        _discretized(
            ("exact", "open", "published"),
            f"{_OPEN}; `published`: the mixture's form in released code, with a density for improbable bins",
        ),
        _logistic_channels,
        _logistic_parameters,
        NATS,
        range=(-1.0, 1.0),
        discrete=True,
    ),
    LikelihoodEntry(
        "discretized_normal",
        "one discretised normal per pixel and channel (de Sousa Ribeiro et al. 2023)",
        _discretized(("exact", "open"), _OPEN),
        _logistic_channels,
        _logistic_parameters,
        NATS,
        range=(-1.0, 1.0),
        discrete=True,
    ),
    LikelihoodEntry(
        "bernoulli",
        "one logit per pixel and channel; the target is 0 or 1",
        (_integer("crop", 0, "border of the padded image that is not scored", 0, 1000),),
        _per_image_channel,
        _no_parameters,
        NATS,
        range=(0.0, 1.0),
    ),
    LikelihoodEntry(
        "normal",
        "continuous density: a mean and a raw standard deviation per pixel and channel",
        (MEAN, SCALE),
        lambda channels, args: 2 * channels,
        _no_parameters,
        NATS,
        runtime="NormalDensity",
    ),
    LikelihoodEntry(
        "laplace",
        "the same with a Laplace distribution: a location and a raw scale per pixel and channel",
        (MEAN, SCALE),
        lambda channels, args: 2 * channels,
        _no_parameters,
        NATS,
        runtime="LaplaceDensity",
    ),
    LikelihoodEntry(
        "categorical",
        "a logit per value of the grid, pixel and channel",
        (
            _BITS,
            _number("low", None, "the target's least value; by default what it is"),
            _number("high", None, "the target's largest value; by default what it is"),
        ),
        _categorical_channels,
        _no_parameters,
        NATS,
        discrete=True,
    ),
    LikelihoodEntry(
        "mse",
        "mean squared error: a reconstruction, no density",
        (),
        _per_image_channel,
        _no_parameters,
        ("mean_square",),
    ),
    LikelihoodEntry(
        "mae",
        "mean absolute error: a reconstruction, no density",
        (),
        _per_image_channel,
        _no_parameters,
        ("mean_absolute",),
    ),
)

LIKELIHOODS: Mapping[str, LikelihoodEntry] = {entry.name: entry for entry in _ENTRIES}

CHOICE = Argument(
    "likelihood",
    ArgumentType.WORD,
    words=tuple(LIKELIHOODS),
    calls=tuple(Word(entry.name, entry.arguments) for entry in _ENTRIES),
)
"""What stands after `likelihood`: a choice of one, with its arguments."""
