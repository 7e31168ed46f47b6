"""HV06xx: settings, likelihood, objective."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code, Severity

# How a setting is written, for the help of a diagnostic.
EXAMPLES = {
    "unit": "unit = nats_per_dim",
    "shape": "shape = 3x32x32",
    "batch": "batch = 32",
    "optimizer": "optimizer = adamw(lr = 2e-4)",
    "schedule": "schedule = cosine(floor = 1e-4)",
    "beta": "beta = ramp(length = epochs(10))",
    "balance": "balance = by_size(square)",
    "free": "free = at_least(2, per = latent)",
    "precision": "precision = bf16",
    "groups": 'groups = ["encoder.*": frozen]',
    "levels": "levels = [z_top: codes(512, 32x32)]",
    "warmup": "warmup = 100",
}

_GREY = spec().replace("input = v, binarize = threshold", "input = v / 15")  # 16 grey levels from 0 to 1
_ERROR = (
    spec()
    .replace("input = v, binarize = threshold", "input = v / 15")
    .replace("likelihood bernoulli", "likelihood mse")
    .replace("nats_per_image", "mean_square")
)
_TRAIN = "train { batch = 8, optimizer = adam(lr = 1e-3) }\n"


def _train(settings: str) -> str:
    return spec(tail=_TRAIN.replace(" }", f", {settings} }}"))


UNKNOWN_SETTING = Code(
    "HV0601",
    "no such setting",
    "Each settings section has its own keys, and each word such as `cosine(…)` its own arguments; the "
    "language reference lists them.",
    bad=_train("warm_up = 100"),
    good=_train("warmup = 100"),
)
BAD_SETTING = Code(
    "HV0602",
    "a setting with a value of the wrong kind",
    "A setting takes a number in a range, `yes` or `no`, one of a few words, or a word with arguments, as "
    "the language reference lists.",
    bad=_train("ema = 1.5"),
    good=_train("ema = 0.999"),
)
MISSING_SETTING = Code(
    "HV0603",
    "a setting without a default is missing",
    "`data` needs a `shape`, `objective` a `unit` (a clipping norm means nothing without it), `train` a "
    "`batch` and an `optimizer` with its rate.",
    bad=spec(tail="train { batch = 8 }\n"),
    good=spec(tail=_TRAIN),
)
DOES_NOT_APPLY = Code(
    "HV0604",
    "a setting that does not apply",
    "Two settings contradict each other, or nothing would ever read one of them. It is refused, because a "
    "run whose log says one thing and does another is worse than an error.",
    bad=_train("clip = 400, skip_above = 200"),
    good=_train("clip = 200, skip_above = 400"),
)
UNKNOWN_LIKELIHOOD = Code(
    "HV0605",
    "no such likelihood",
    "The likelihood scores the target image given what the decoder ends with.",
    bad=spec().replace("likelihood bernoulli", "likelihood bernouli"),
    good=spec(),
)
BAD_LIKELIHOOD = Code(
    "HV0606",
    "wrong arguments for the likelihood",
    "A likelihood takes the arguments that the language reference lists, by name or in their order.",
    bad=spec().replace("likelihood bernoulli", "likelihood bernoulli(crop = yes)"),
    good=spec().replace("likelihood bernoulli", "likelihood bernoulli(crop = 2)"),
)
BAD_PIXEL_MAP = Code(
    "HV0607",
    "not a map of pixels",
    "`input` and `target` are arithmetic on the raw pixel `v`, numbers and `let`s, with a value for every "
    "pixel from 0 to 2^bits - 1.",
    bad=_GREY.replace("input = v / 15", "input = v if v > 3 else 0"),
    good=_GREY,
)
TARGET_OUT_OF_RANGE = Code(
    "HV0608",
    "a target outside the likelihood's range",
    "Discretised logistics score targets in [-1, 1], a Bernoulli likelihood targets in [0, 1]. The target "
    "is evaluated over every pixel value before anything runs.",
    bad=_GREY.replace("input = v / 15", "input = v"),
    good=_GREY,
)
_MIXTURE = "likelihood discretized_logistic_mixture(2, bits = 4)"
GRID_DOES_NOT_FIT = Code(
    "HV0609",
    "a target of another bit depth than the likelihood",
    "A discretised likelihood gives each bin of the target's grid a probability. The number of distinct "
    "values that the target takes over all pixels must be 2^bits of the likelihood, whatever the depth of "
    "the data.",
    bad=_GREY.replace("likelihood bernoulli", _MIXTURE.replace("4", "8")).replace(
        "input = v / 15", "input = v / 7.5 - 1"
    ),
    good=_GREY.replace("likelihood bernoulli", _MIXTURE).replace("input = v / 15", "input = v / 7.5 - 1"),
)
UNIT_DOES_NOT_FIT = Code(
    "HV0610",
    "a unit that the likelihood does not have",
    "A density is measured in nats, a reconstruction error in its own unit.",
    bad=spec().replace("nats_per_image", "mean_square"),
    good=spec(),
)
UNKNOWN_DATA = Code(
    "HV0611",
    "no such data",
    "`data` names a known set, or one of the kinds `images` (a folder), `arrays` (npy or npz) and `codes`, whose "
    "place `source` or `--data` says.",
    bad=spec().replace("data digits", "data digit"),
    good=spec(),
)
UNKNOWN_PRIOR = Code(
    "HV0612",
    "`train` of an unknown prior",
    "`train NAME { … }` says how the prior of that name is trained; without a name it is about the model.",
    bad=spec(tail=_TRAIN.replace("train", "train z")),
    good=spec(tail=_TRAIN),
)
NOTHING_TO_BALANCE = Code(
    "HV0613",
    "balancing of a single group",
    "`balance` weights the rates of latent groups against each other; with one group every weight is 1. The setting "
    "would have no effect.",
    bad=spec().replace("unit = nats_per_image", "unit = nats_per_image, balance = by_size(square)"),
    good=spec(),
)
RATE_OF_AN_ERROR = Code(
    "HV0614",
    "a rate beside a reconstruction error",
    "A learned rate is in nats and must be weighed against a distortion in nats; a mean error has no such scale. The "
    "codes of a quantizer always cost the same, so they need no weighing.",
    bad=_ERROR,
    good=spec(),
)
NO_PARAMETER = Code(
    "HV0615",
    "a pattern for no parameter",
    'With `groups = ["encoder": frozen]` in `train`, parameters are treated by their names, as checkpoints have them. '
    "A pattern that matches none of them is an error, and so is one whose parameters all belong to earlier patterns; "
    "and some parameters must remain trained.",
    bad=_train('groups = ["encodr": frozen]'),
    good=_train('groups = ["encoder": frozen]'),
)
REAL_VALUES = Code(
    "HV0620",
    "real numbers where a likelihood wants a grid",
    "`values = real` takes pixels as the numbers they are, in any range: they have no bins to give probabilities to. "
    "The likelihood must be a density of real numbers, or an error, and the target must be affine in `v`, so that "
    "means and samples can be turned back into numbers of the data.",
    bad=_GREY.replace("bits = 4, input = v / 15", "values = real, input = v / 255"),
    good=_GREY.replace("bits = 4, input = v / 15", "values = real, input = v / 255").replace("bernoulli", "normal"),
)
SOFT_TARGET = Code(
    "HV0911",
    "a Bernoulli likelihood of grey values",
    "Grey levels taken as probabilities train well enough, but the reported value is then a cross entropy "
    "and no likelihood: it is not comparable with results on binarised images.",
    bad=_GREY,
    good=spec(),
    severity=Severity.WARNING,
)

CODES = (
    UNKNOWN_SETTING,
    BAD_SETTING,
    MISSING_SETTING,
    DOES_NOT_APPLY,
    UNKNOWN_LIKELIHOOD,
    BAD_LIKELIHOOD,
    BAD_PIXEL_MAP,
    TARGET_OUT_OF_RANGE,
    GRID_DOES_NOT_FIT,
    UNIT_DOES_NOT_FIT,
    UNKNOWN_DATA,
    UNKNOWN_PRIOR,
    NOTHING_TO_BALANCE,
    RATE_OF_AN_ERROR,
    NO_PARAMETER,
    REAL_VALUES,
    SOFT_TARGET,
)
