"""The names under which things are measured, with their units: the one vocabulary of log, display, JSON and documents.

A name ends with its unit where it has one. Whoever measures uses the constants here; `METRICS` tells what each is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NONE = "–"
"""The unit of a plain number."""
TRAIN, VALIDATION, STALLED = "train", "validation", "stalled"
EVENTS: Mapping[str, str] = MappingProxyType(
    {
        TRAIN: "means since the line before",
        VALIDATION: "of the held-out images",
        STALLED: "training ended, since too many updates were skipped",
    }
)
"""What a line of the log is about: the log takes no other, and reports show all."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured under a name.

    Attributes:
        unit: In words; a dash where it has none.
        meaning: In the notation of the objective: D the distortion, R_l the rate of group l.
        label: How a line of progress calls it; None where it stays in the log.
        form: How its numbers are shown there, as a format specification.
        per_group: Whether it is a list: a number for each latent group, in order of generation.
    """

    name: str
    unit: str
    meaning: str
    label: str | None = None
    form: str = ".4f"
    per_group: bool = False

    @property
    def heading(self) -> str:
        """What it is called where there is room for all that is measured."""
        return self.label or _HEADINGS.get(self.name) or self.name.replace("_", " ")


_METRICS: dict[str, Metric] = {}
METRICS: Mapping[str, Metric] = MappingProxyType(_METRICS)
"""Every metric by name, in the order in which a line of progress shows them."""

UNIT = "<unit>"
"""In the name of a penalty: the unit of the spec's objective."""


def _metric(
    name: str, unit: str, meaning: str, label: str | None = None, form: str = ".4f", *, per_group: bool = False
) -> str:
    _METRICS[name] = Metric(name, unit, meaning, label, form, per_group)
    return name


_IMAGE, _DIM, _BITS = "nats per image", "nats per dimension", "bits per dimension"
_BOUND, _UNIFORM = "D + Σ R, without weights and penalties", "Σ R, where the likelihood is no density"

OBJECTIVE = _metric("objective", "the spec's", "D + β Σ γ_l max(λ, R_l) and the penalties")
BITS_PER_DIM = _metric("bits_per_dim", _BITS, _BOUND, "bits/dim", ".3f")
NEGATIVE_ELBO_NATS_PER_IMAGE = _metric("negative_elbo_nats_per_image", _IMAGE, _BOUND)
NEGATIVE_ELBO_NATS_PER_DIM = _metric("negative_elbo_nats_per_dim", _DIM, _BOUND, "nats/dim")
NEGATIVE_IMPORTANCE_BOUND_NATS_PER_DIM = _metric(
    "negative_importance_bound_nats_per_dim", _DIM, "the importance-weighted bound of several samples", "nats/dim"
)
EFFECTIVE_SAMPLE_SIZE = _metric(
    "effective_sample_size", "samples", "(Σ w)² / Σ w² of an image's importance weights, between 1 and K"
)
STANDARD_ERROR_BITS_PER_DIM = _metric("standard_error_bits_per_dim", _BITS, "of the mean bound over the images")
DISTORTION_NATS_PER_DIM = _metric("distortion_nats_per_dim", _DIM, "D", "distortion")
RATE_NATS_PER_DIM = _metric("rate_nats_per_dim", _DIM, "Σ R", "rate")
NATS_PER_CODE = _metric("nats_per_code", "nats per code", "-log p of a code under its prior", "nats/code")
BITS_PER_MAP = _metric("bits_per_map", "bits per image", "-log p of an image's codes of one latent")
ACCURACY = _metric("accuracy", NONE, "the share of codes that are the most probable ones")
ERROR_PER_DIM = _metric(
    "error_per_dim", NONE, "instead of D, where the likelihood is an error and no density", "error", ".5f"
)
RATE_BITS_PER_IMAGE = _metric("rate_bits_per_image", "bits per image", _UNIFORM)
RATE_BITS_PER_DIM = _metric("rate_bits_per_dim", _BITS, _UNIFORM, "rate bits/dim")
RATE_PER_GROUP_NATS_PER_IMAGE = _metric(
    "rate_per_group_nats_per_image", _IMAGE, "R_l, in order of generation", per_group=True
)
WEIGHTED_RATE_NATS_PER_DIM = _metric("weighted_rate_nats_per_dim", _DIM, "β Σ γ_l max(λ, R_l)")
BETA = _metric("beta", NONE, "β of this step")
RATE_PER_GROUP_WEIGHT = _metric("rate_per_group_weight", NONE, "γ_l, while groups are balanced", per_group=True)
ACTIVE_CHANNELS_PER_GROUP = _metric(
    "active_channels_per_group", "channels", "those whose mean rate over the images is above 0.1 nats", per_group=True
)
COMMITMENT_PER_GROUP_MEAN_SQUARE = _metric(
    "commitment_per_group_mean_square", NONE, "the commitment of each discrete group", per_group=True
)
CODEBOOK_LOSS = _metric("codebook_loss", NONE, "what trains codebooks by gradient, summed")
CODES_USED_PER_GROUP_FRACTION = _metric(
    "codes_used_per_group_fraction", NONE, "the codes chosen at least once since the line before", per_group=True
)
CODE_PERPLEXITY_PER_GROUP_CODES = _metric(
    "code_perplexity_per_group_codes",
    "codes",
    "exp of the entropy of their frequencies, since the line before",
    "perplexity",
    ".0f",
    per_group=True,
)
SPECTRAL_SUM = _metric("spectral_sum", NONE, "Σ σ")
WEIGHTED_SPECTRAL = _metric(f"weighted_spectral_{UNIT}", "the objective's", "w_s Σ σ")
BATCH_NORM_GAMMA_SUM = _metric("batch_norm_gamma_sum", NONE, "Σ max |γ|")
WEIGHTED_BATCH_NORM_GAMMA = _metric(f"weighted_batch_norm_gamma_{UNIT}", "the objective's", "w_g Σ max |γ|")
GRADIENT_NORM = _metric(
    "gradient_norm", NONE, "global, before clipping: the largest since the line before", "grad", ".3g"
)
GRADIENT_NORM_LIMIT = _metric("gradient_norm_limit", NONE, "updates are skipped from this norm on")
LEARNING_RATE = _metric("learning_rate", NONE, "the rate in force", "lr", ".2g")
SKIPPED_STEPS = _metric("skipped_steps", "steps", "not applied, since training began", "skipped", ".0f")
SKIPPED_STEPS_IN_WINDOW = _metric("skipped_steps_in_window", "steps", "not applied, since the line before")
SKIP_STREAK_STEPS = _metric("skip_streak_steps", "steps", "not applied in a row, up to now")
LONGEST_SKIP_STREAK_STEPS = _metric("longest_skip_streak_steps", "steps", "the most that were not applied in a row")
EPOCH = _metric("epoch", "epochs", "done, with their fraction")
IMAGES_PER_SECOND = _metric("images_per_second", "images per second", "since the line before", "img/s", ".0f")
SECONDS_PER_STEP = _metric("seconds_per_step", "seconds", "since the line before, reading included")
PEAK_MEMORY_BYTES = _metric(
    "peak_memory_bytes", "bytes", "the most that tensors took on the device, or on a CPU the process"
)
IMAGES = _metric("images", "images", "those that were evaluated")
SAMPLES = _metric("samples", "samples", "of the latents for each image")

_HEADINGS = {
    NEGATIVE_ELBO_NATS_PER_IMAGE: "nats/image",
    STANDARD_ERROR_BITS_PER_DIM: "± bits/dim",
    RATE_BITS_PER_IMAGE: "rate bits/image",
    RATE_PER_GROUP_NATS_PER_IMAGE: "rate nats/image",
    WEIGHTED_RATE_NATS_PER_DIM: "weighted rate",
    RATE_PER_GROUP_WEIGHT: "weight γ",
    ACTIVE_CHANNELS_PER_GROUP: "active channels",
    COMMITMENT_PER_GROUP_MEAN_SQUARE: "commitment",
    CODES_USED_PER_GROUP_FRACTION: "codes used",
    WEIGHTED_SPECTRAL: "weighted spectral",
    BATCH_NORM_GAMMA_SUM: "sum of γ",
    WEIGHTED_BATCH_NORM_GAMMA: "weighted γ",
    SKIPPED_STEPS_IN_WINDOW: "skipped just now",
    SKIP_STREAK_STEPS: "skipped in a row",
    LONGEST_SKIP_STREAK_STEPS: "longest streak",
    SECONDS_PER_STEP: "seconds/step",
    PEAK_MEMORY_BYTES: "peak memory",
}


def metric(name: str) -> Metric | None:
    """The metric of that name, whatever the objective's unit in it; None where there is none."""
    if name in METRICS:
        return METRICS[name]
    return next((m for m in METRICS.values() if UNIT in m.name and name.startswith(m.name.removesuffix(UNIT))), None)


def in_unit(name: str, unit: str) -> str:
    """A penalty's name with the unit of the objective in it."""
    return name.replace(UNIT, unit)


def is_per_group(name: str) -> bool:
    """Whether what is measured under a name is a list with a number for each latent group."""
    known = metric(name)
    return known is not None and known.per_group
