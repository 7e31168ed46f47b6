"""The words that settings take, such as `cosine(…)`; for each its model and its arguments in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from hvdsl.compiler.settings import (
    L2,
    AtLeast,
    ByRate,
    BySize,
    Duration,
    Optimizer,
    Ramp,
    RandomCrop,
    Resize,
    Schedule,
    Settings,
    WithBeta,
)


class _Precision(Settings):
    precision: str
    initial_scale: float = Field(default=65536.0, gt=0)


class _Binarize(Settings):
    binarize: str
    binarize_every: Literal["access", "epoch", "once"] = Field(default="access", alias="every")


@dataclass(frozen=True, slots=True)
class Word:
    """A word with arguments: positional ones are named in this order."""

    model: type[Settings]
    arguments: tuple[str, ...]
    fixed: Callable[[str], dict[str, Any]] = lambda name: {"kind": name}


def _nothing(name: str) -> dict[str, Any]:
    return {}


def _unit(name: str) -> dict[str, Any]:
    return {"unit": name}


_ADAM = Word(Optimizer, ("lr", "betas", "eps", "weight_decay", "decay_only", "bias_correction"))
_DURATION = {unit: Word(Duration, ("n",), _unit) for unit in ("epochs", "fraction")}
_DURATIONS = (
    *("start", "length", "until", "after", "over"),  # arguments of words
    *("warmup", "evaluate_every", "sample_every", "checkpoint_every"),  # keys of `train`
)
_WEIGHT = {"with_beta": Word(WithBeta, ("first", "last"))}

# Per key of a section (or argument of a word), the words it may say.
WORDS: Mapping[str, Mapping[str, Word]] = {
    "beta": {"ramp": Word(Ramp, ("from", "start", "length", "floor"))},
    "balance": {"by_size": Word(BySize, ("weight",)), "by_rate": Word(ByRate, ("until",))},
    "free": {"at_least": Word(AtLeast, ("nats", "per", "take_max", "when"))},
    "commitment": _WEIGHT,
    "spectral": _WEIGHT,
    "batch_norm_gamma": _WEIGHT,
    "optimizer": {
        "adam": _ADAM,
        "adamw": _ADAM,
        "adamax": _ADAM,
        "sgd": Word(Optimizer, ("lr", "momentum", "weight_decay", "decay_only")),
    },
    "weight_decay": {"l2": Word(L2, ("weight",))},
    "schedule": {
        "constant": Word(Schedule, ()),
        "cosine": Word(Schedule, ("floor", "after", "over", "per")),
        "exponential": Word(Schedule, ("factor", "floor", "per")),
        "one_cycle": Word(Schedule, ("warm", "floor")),
    },
    "precision": {
        "fp32": Word(_Precision, (), lambda name: {"precision": name}),
        "bf16": Word(_Precision, (), lambda name: {"precision": name}),
        "fp16": Word(_Precision, ("initial_scale",), lambda name: {"precision": name}),
    },
    "binarize": {
        "none": Word(_Binarize, (), lambda name: {"binarize": name}),
        "threshold": Word(_Binarize, (), lambda name: {"binarize": name}),
        "bernoulli": Word(_Binarize, ("every",), lambda name: {"binarize": name}),
    },
    "crop": {"random": Word(RandomCrop, ("size",))},
    "resize": {"stretch": Word(Resize, ("size",)), "fit": Word(Resize, ("size",))},
} | dict.fromkeys(_DURATIONS, _DURATION)

# Fields of a section that are written inside a word, never as keys.
INNER = {
    "initial_scale": "precision = fp16(initial_scale = …)",
    "binarize_every": "binarize = bernoulli(every = …)",
}


def unfold(key: str, value: Any) -> dict[str, Any]:
    """Return the fields of the section's model that one key sets."""
    if key in ("binarize", "checkpointing") and value is None:  # here `none` is a word like the others
        return {key: "none"}
    if isinstance(value, _Precision | _Binarize):
        return value.model_dump()
    return {key: value}
