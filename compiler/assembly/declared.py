"""The settings' models as declared arguments: what a section or one of its words takes, derived from the fields.

The models of `hvdsl.compiler.settings` are the one declaration: keys, types, bounds, words and defaults of the text
form, of `--set`, of YAML and of the JSON schema all come from them.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from hvdsl.compiler import settings
from hvdsl.compiler.catalogue.table import FROM_ZERO, REQUIRED, Argument, ArgumentType, Bounds, Required, Word
from hvdsl.compiler.graph import Literal as Value
from hvdsl.compiler.graph import Term
from hvdsl.compiler.setting_words import ByPattern, Duration, PixelExpression, Settings

M = TypeVar("M", bound=Settings)


@cache
def arguments(section: type[Settings]) -> Mapping[str, Argument]:
    """Return the arguments that a settings section declares, by key."""
    return {key: _field(section, name) for key, name in _keys(section)}


def _keys(section: type[Settings]) -> Iterator[tuple[str, str]]:
    allowed = settings.keys(section)
    for name, field in section.model_fields.items():
        if (field.alias or name) in allowed:
            yield field.alias or name, name


@cache
def _models(model: type[Settings], name: str) -> Mapping[str, type[Settings]]:
    """Return the model that each word of a field stands for: `cosine` of `beta` is not that of `schedule`."""
    field = model.model_fields[name]
    kinds = (kind for kind, _ in _alternatives(field.annotation, field.metadata))
    return {word: k for k in kinds if isinstance(k, type) and issubclass(k, Settings) for word in k.WORDS}


@cache
def _field(model: type[Settings], name: str) -> Argument:
    """Return the argument that a field declares."""
    field = model.model_fields[name]
    forms = [_form(kind, more) for kind, more in _alternatives(field.annotation, field.metadata)]
    words = tuple(dict.fromkeys(word for form in forms for word in form.words))
    calls = tuple(call for form in forms for call in form.calls)
    calls += tuple(
        Word(word, tuple(_field(model, inner) for inner in fields))
        for word, fields in model.TAKES.get(name, {}).items()
    )
    kinds = [form for form in forms if form.type is not ArgumentType.WORD]
    key, default = field.alias or name, _default(field)
    doc = field.description or DOCS.get(model.__name__, {}).get(key, "")
    main = kinds[0] if kinds else Argument(key, ArgumentType.WORD)
    other = kinds[1] if len(kinds) > 1 else None
    return Argument(key, main.type, default, words, doc, False, calls, main.bounds, main.items, other=other)


def _alternatives(annotation: Any, metadata: Sequence[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the types that an annotation joins, each with its constraints; `None` shows in the default."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from _alternatives(inner, (*metadata, *more))
    elif origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one, metadata)
    elif annotation is not types.NoneType:
        yield annotation, tuple(metadata)


def _form(kind: Any, metadata: tuple[Any, ...]) -> Argument:
    """Return one type of a field as an argument without a name."""
    if get_origin(kind) is Literal:
        return Argument("", ArgumentType.WORD, words=get_args(kind))
    if get_origin(kind) is tuple:
        items = (next(_alternatives(item, ())) for item in get_args(kind))
        return Argument("", ArgumentType.TUPLE, items=tuple(_form(*item) for item in items))
    if isinstance(kind, type) and issubclass(kind, Settings):
        calls = tuple(Word(word, tuple(_field(kind, name) for name in fields)) for word, fields in kind.WORDS.items())
        if kind is Duration:
            return Argument("", ArgumentType.INTEGER, words=tuple(kind.WORDS), calls=calls, bounds=FROM_ZERO)
        return Argument("", ArgumentType.WORD, words=tuple(kind.WORDS), calls=calls)
    if ByPattern in metadata:
        value = get_args(kind)[1]
        return Argument("", ArgumentType.MAP, items=(_form(value, ()),))
    if PixelExpression in metadata:
        return Argument("", ArgumentType.PIXELS)
    return Argument("", _TYPES[kind], bounds=_bounds(metadata))


_TYPES = {
    int: ArgumentType.INTEGER,
    float: ArgumentType.NUMBER,
    bool: ArgumentType.SWITCH,
    str: ArgumentType.TEXT,
}


def _bounds(metadata: Iterable[Any]) -> Bounds:
    """Return the bounds among the constraints of a field."""
    limits: dict[str, Any] = {}
    for one in metadata:
        for constraint in one.metadata if isinstance(one, FieldInfo) else (one,):
            match constraint:
                case Ge(ge):
                    limits["least"] = ge
                case Gt(gt):
                    limits["above"] = gt
                case Le(le):
                    limits["most"] = le
                case Lt(lt):
                    limits["below"] = lt
    return Bounds(**limits)


def _default(field: FieldInfo) -> Value | Required:
    return REQUIRED if field.is_required() else _as_written(field.get_default(call_default_factory=True))


def _as_written(value: Any) -> Value:
    """Return a default as a spec would write it."""
    if isinstance(value, Duration) and value.unit == "steps":
        return int(value.n)
    if isinstance(value, Settings):
        return Term(getattr(value, value.TAG))
    if isinstance(value, dict):
        return None  # an empty map
    return value  # type: ignore[no-any-return]  # a number, word, tuple or None


def holder(section: type[Settings], name: str) -> str | None:
    """Return the key whose words take an argument of this name: `optimizer` of `lr`."""
    for key, argument in arguments(section).items():
        if any(inner.name == name for call in argument.calls for inner in call.arguments):
            return key
    return None


def fields(section: type[Settings], key: str, value: Value) -> dict[str, Any]:
    """Return the fields of a section that one checked setting gives values."""
    name = next(name for k, name in _keys(section) if k == key)
    inner = section.TAKES.get(name, {})
    if isinstance(value, Term) and value.name in inner:
        takes = _field(section, name).takes(value.name)
        return {name: value.name} | _given(section, value, takes, inner[value.name])
    return {name: _plain(section, name, value)}


def of_map(section: type[Settings], key: str, value: Value) -> Settings:
    """Return the model of one checked value of a map of patterns."""
    name = next(name for k, name in _keys(section) if k == key)
    kind: type[Settings] = get_args(section.model_fields[name].annotation)[1]
    if not isinstance(value, Term):
        raise TypeError("a map of patterns has words as values")
    takes = next((call.arguments for call in _form(kind, ()).calls if call.name == value.name), ())
    return build_settings(kind, {kind.TAG: value.name} | _given(kind, value, takes, kind.WORDS[value.name]))


def build_settings(model: type[M], values: Mapping[str, Any]) -> M:
    """Make a section of checked fields.

    Raises:
        SettingError: for fields that contradict each other.
    """
    return model.model_validate(values)


def _plain(owner: type[Settings], name: str, value: Value) -> Any:
    """Return the checked value of a field as it takes it: words and calls become models."""
    argument = _field(owner, name)
    if value is None and "none" in argument.words:
        return "none"
    if not isinstance(value, Term):
        return value
    model = _models(owner, name).get(value.name)
    if model is None:
        return value.name
    values = _given(model, value, argument.takes(value.name), model.WORDS[value.name])
    return build_settings(model, {model.TAG: value.name} | values)


def _given(owner: type[Settings], term: Term, declared: Sequence[Argument], names: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of a word by the names of their fields."""
    by_key = {argument.name: name for argument, name in zip(declared, names, strict=True)}
    values = dict(zip((a.name for a in declared), term.args, strict=False)) | dict(term.options)
    return {by_key[key]: _plain(owner, by_key[key], value) for key, value in values.items()}


DOCS: Mapping[str, Mapping[str, str]] = {
    "Data": {
        "shape": "channels x height x width of an image after `crop`, `resize` and `pad`",
        "bits": "of a pixel: `v` is 0 to 2^bits - 1",
        "values": "what a stored number means: scaled to `bits`, a level already, or any real number",
        "alpha": "what is behind transparent pixels, or what becomes of opacity",
        "input": "what the encoder receives, an expression in the pixel `v`",
        "target": "what the likelihood scores: an expression in `v`, of fields, or both; by default as `input`",
        "weight": "how much each pixel counts in the likelihood, an expression of fields",
        "source": "folder or file that the images, or codes, are read from",
        "levels": "of `data codes`: the codes of each latent, `[z: codes(512, 32x32)]`",
        "classes": "number of classes; `label` is then the class, one-hot",
        "flip": "mirror half of the training images",
        "shift": "move each training image by up to so many pixels, its edge repeated",
        "crop": "(left, top, right, bottom) of the file, or `random(HxW)` after `resize` and `pad`",
        "resize": "HxW: the middle in these proportions, scaled; or `stretch(HxW)`, `fit(HxW)`",
        "pad": "border of 0, in pixels",
        "binarize": "make `v` 0 or 1: by a threshold, or drawn with the grey level as probability",
        "holdout": "images kept for validation: a count, or a fraction",
        "split_seed": "seed of the choice of held-out images",
    },
    "ConditionSettings": {
        "input": "how the model takes the field's numbers, an expression in `v`; classes are one-hot",
        "drop": "how often training leaves the field out, so that the model knows images without it, too",
        "source": "a table, a folder, `image` (the image at the field's size) or `box` (a random rectangle)",
        "column": "of the table; by default that of the field's name",
    },
    "ObjectiveSettings": {
        "unit": "what the loss, its gradients and clipping norms are in",
        "kl": "the rate in closed form, or log q - log p of the drawn z",
        "samples": "posterior samples of an image",
        "bound": "of several samples: their mean `elbo`, or the importance-weighted `iwae`",
        "chunk": "samples in one pass: memory grows with it, results do not change",
        "beta": "factor on the rate: a number, or a schedule that ends at 1",
        "balance": "factors that keep the rates of latent groups in proportion (NVAE, appendix A)",
        "free": "free bits: rate below this is not minimised",
        "commitment": "pulls vectors of quantizers to their codes",
        "spectral": "penalty on the largest singular values of convolutions",
        "batch_norm_gamma": "penalty on the gains of batch normalisation",
    },
    "Train": {
        "steps": "length of training; or `epochs`",
        "epochs": "length of training; or `steps`",
        "batch": "images of a step, over all devices",
        "optimizer": "`adam`, `adamw`, `adamax` or `sgd`, with its rate",
        "schedule": "of the learning rate after the warm-up",
        "warmup": "steps over which the learning rate rises to its peak",
        "clip": "largest norm of all gradients together",
        "clip_each": "largest norm of each tensor's gradient",
        "skip_above": "a step whose gradient norm is above it is skipped: a number, or a quantile of the last norms",
        "ema": "rate of the averaged weights, which evaluation and sampling take",
        "precision": "arithmetic of the network",
        "accumulate": "parts that a batch is computed in, one after the other",
        "checkpointing": "recompute activations in the backward pass: of all recipes (`group`), or for `budget(bytes)`",
        "seed": "of every random draw",
        "log_every": "steps between two lines of progress",
        "evaluate_every": "steps between two validations",
        "sample_every": "steps between two sheets of samples",
        "checkpoint_every": "steps between two checkpoints",
        "keep": "how many of the newest checkpoints are kept, or `best(metric, newest)`",
        "patience": "end after so many validations without a better one",
    },
    "Evaluate": {
        "samples": "posterior samples of an image; several give the importance-weighted bound",
        "use_ema": "evaluate the averaged weights",
    },
    "SampleSettings": {
        "temperature": "factor on the scales of priors",
        "recalibrate_batch_norm": "passes over samples that adjust the statistics of batch normalisation first",
        "use_ema": "sample from the averaged weights",
    },
}
