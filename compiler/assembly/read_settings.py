"""Read the settings sections of a merged spec; a mistake is a diagnostic at its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hvdsl.compiler.assembly.pixels import PixelMap, pixel_map
from hvdsl.compiler.assembly.setting_words import INNER, WORDS, Word, unfold
from hvdsl.compiler.assembly.train_rules import check_data, check_objective, check_train
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.constants import constant
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.settings import (
    DATA_NAMES,
    SECTIONS,
    Data,
    ModelSettings,
    Objective,
    Settings,
    Train,
    keys,
)
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, SpecError
from hvdsl.grammar.source import Span

Lets = Mapping[str, tree.Expr]
M = TypeVar("M", bound=Settings)


@dataclass(frozen=True, slots=True)
class Pixels:
    """The two pixel maps of `data`, and where the target is written."""

    input: PixelMap
    target: PixelMap
    place: Span


def read_settings(spec: tree.Spec, lets: Lets, found: Diagnostics) -> tuple[ModelSettings | None, Pixels | None]:
    """Return the validated settings of a spec and its pixel maps; None after recording what is wrong."""
    sections = {item.kind: item for item in spec.items if isinstance(item, tree.Settings) and item.kind != "train"}
    trains = [item for item in spec.items if isinstance(item, tree.Settings) and item.kind == "train"]
    before = sum(1 for _ in found)
    data, pixels = _read_data(sections.get("data"), lets, found)
    objective = _read(sections.get("objective"), Objective, lets, found)
    if objective is not None:
        check_objective(objective, sections["objective"], found)
    read: dict[str, Any] = {"data": data, "objective": objective}
    for kind in ("evaluate", "sample"):
        if kind in sections:
            read[kind] = _read(sections[kind], SECTIONS[kind], lets, found)
    read |= _read_trains(trains, spec, lets, found)
    if sum(1 for _ in found) > before or data is None or objective is None:
        return None, pixels
    headers = {item.kind: item.value for item in spec.items if isinstance(item, tree.Header)}
    model, title = headers.get("model"), headers.get("title")
    if not isinstance(model, tree.Name):  # recorded as missing
        return None, pixels
    text = title.value if isinstance(title, tree.String) else ""
    return ModelSettings(model=model.id, title=text, **read), pixels


def _read_trains(trains: list[tree.Settings], spec: tree.Spec, lets: Lets, found: Diagnostics) -> dict[str, Any]:
    priors = [item.name.id for item in spec.items if isinstance(item, tree.Prior)]
    read: dict[str, Any] = {"train": None, "train_priors": {}}
    for section in trains:
        train = _read(section, Train, lets, found)
        if train is not None:
            check_train(train, section, found)
        if section.name is None:
            read["train"] = train
        elif isinstance(section.name, tree.Name) and section.name.id in priors:
            read["train_priors"][section.name.id] = train
        else:
            found.add(
                Diagnostic(
                    codes.UNKNOWN_PRIOR,
                    "`train` of a prior that the spec does not have",
                    section.name.span,
                    found=f"`{section.name.span.text}`",
                    expected="the name of a `prior`, or none for the model itself",
                    help=did_you_mean(section.name.span.text, priors),
                )
            )
    return read


def _read_data(section: tree.Settings | None, lets: Lets, found: Diagnostics) -> tuple[Data | None, Pixels | None]:
    if section is None:
        return None, None
    maps: dict[str, PixelMap] = {}
    for setting in section.settings:
        if setting.key.id in ("input", "target"):
            try:
                maps[setting.key.id] = pixel_map(setting.value, lets)
            except SpecError as error:
                _record(error, found)
    name = section.name.id if isinstance(section.name, tree.Name) else None
    if name not in DATA_NAMES:
        found.add(_unknown_data(section, name))
        name = "images"
    extra = {"name": name} | {key: value.text for key, value in maps.items()}
    rest = tuple(s for s in section.settings if s.key.id not in ("input", "target"))
    data = _read(section, Data, lets, found, rest, extra)
    if data is None:
        return None, None
    check_data(data, section, found)
    identity = pixel_map(tree.Name("v", span=section.span), {})
    into = maps.get("input", identity)
    places = {s.key.id: s.value.span for s in section.settings}
    place = places.get("target", places.get("input", section.span))
    return data, Pixels(into, maps.get("target", into), place)


def _unknown_data(section: tree.Settings, name: str | None) -> Diagnostic:
    place = section.name.span if section.name is not None else section.span
    help = 'write `data images { source = "…" }` for a folder of images, `data arrays { … }` for npy or npz'
    return Diagnostic(
        codes.UNKNOWN_DATA,
        "there are no data of this name",
        place,
        found=f"`{place.text}`",
        expected=", ".join(f"`{n}`" for n in DATA_NAMES),
        help=did_you_mean(name, DATA_NAMES) if name is not None else help,
    )


def _record(error: SpecError, found: Diagnostics) -> None:
    for diagnostic in error.diagnostics:
        found.add(diagnostic)


def _read(
    section: tree.Settings | None,
    model: type[M],
    lets: Lets,
    found: Diagnostics,
    settings: tuple[tree.Setting, ...] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> M | None:
    """Validate one section. All settings are tried, so that one run reports every mistake."""
    if section is None:
        return None
    settings = section.settings if settings is None else settings
    values: dict[str, Any] = dict(extra or {})
    failed = False
    for setting in settings:
        key = setting.key.id
        if key not in keys(model):
            found.add(_unknown_key(section, setting, model))
            failed = True
            continue
        try:
            values |= unfold(key, _value(key, constant(setting.value, lets), setting))
        except SpecError as error:
            _record(error, found)
            failed = True
    if failed:
        # Missing keys are still worth a word; a key that failed is not missing.
        written = {s.key.id for s in settings} | set(values)
        _report_missing(section, [k for k in _required(model) if k not in written], found)
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        _report(section, settings, error, found)
        return None


def _required(model: type[Settings]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items() if field.is_required()]


def _value(key: str, literal: Literal, setting: tree.Setting) -> Any:
    """Turn a literal into what the model of its key takes: words and calls into nested models."""
    if isinstance(literal, str) and key in WORDS and literal in WORDS[key]:
        literal = Term(literal)
    if not isinstance(literal, Term):
        return literal
    word = WORDS.get(key, {}).get(literal.name)
    if word is None:
        if literal.args or literal.options:
            raise SpecError([_wrong(key, setting, describe(literal), did_you_mean(literal.name, WORDS.get(key, {})))])
        return literal.name
    return _call(word, literal, setting)


def _call(word: Word, term: Term, setting: tree.Setting) -> Any:
    """Build the model that a word such as `cosine(floor = 1e-4)` stands for."""
    if len(term.args) > len(word.arguments):
        message = f"{len(term.args)} arguments without a name, where there are {len(word.arguments)}"
        raise SpecError([_wrong(term.name, setting, message, f"`{term.name}` takes {_listed(word.arguments)}")])
    given = dict(zip(word.arguments, term.args, strict=False))
    for name, value in term.options:
        if name not in word.arguments:
            help = did_you_mean(name, word.arguments) if word.arguments else f"write `{term.name}` alone"
            message = f"`{term.name}` has no argument `{name}`"
            raise SpecError(
                [
                    Diagnostic(
                        codes.UNKNOWN_SETTING,
                        message,
                        _argument(setting.value, name),
                        f"`{name}`",
                        f"an argument of `{term.name}`: {_listed(word.arguments)}",
                        help,
                    )
                ]
            )
        if name in given:
            raise SpecError([_wrong(term.name, setting, f"`{name}` twice", f"give `{name}` once")])
        given[name] = value
    values = {name: _value(name, value, setting) for name, value in given.items()}
    try:
        return word.model.model_validate(word.fixed(term.name) | values)
    except ValidationError as error:
        raise SpecError([_nested(term, setting, e) for e in _first_per_key(error)]) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "no arguments"


def _argument(value: tree.Expr, name: str) -> Span:
    """Return where an argument of this name is written, or else the whole value."""
    if isinstance(value, tree.Call):
        for argument in value.arguments:
            if argument.name == name:
                return argument.span
            inner = _argument(argument.value, name)
            if inner is not argument.value.span:
                return inner
    return value.span


def _wrong(key: str, setting: tree.Setting, found: str, help: str, expected: str = "") -> Diagnostic:
    message = f"this is no value for `{key}`"
    return Diagnostic(codes.BAD_SETTING, message, setting.value.span, found, expected or "see the help", help)


def _unknown_key(section: tree.Settings, setting: tree.Setting, model: type[Settings]) -> Diagnostic:
    key = setting.key.id
    help = f"write it as `{INNER[key]}`" if key in INNER else did_you_mean(key, keys(model))
    return Diagnostic(
        codes.UNKNOWN_SETTING,
        f"`{section.kind}` has no setting `{key}`",
        setting.key.span,
        found=f"`{key}`",
        expected=f"a setting of `{section.kind}`",
        help=help,
    )


def _first_per_key(error: ValidationError) -> list[ErrorDetails]:
    """One error per key; those of a union's alternatives are joined into one sentence."""
    joined: dict[Any, ErrorDetails] = {}
    for detail in error.errors(include_url=False):
        key = detail["loc"][0] if detail["loc"] else ""
        if key in joined:
            more = _expected(detail)
            if more not in joined[key]["msg"]:
                joined[key]["msg"] += f" or {more}"
        else:
            joined[key] = detail
    return list(joined.values())


def _expected(detail: ErrorDetails) -> str:
    text = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    text = text.replace("a valid integer", "a whole number").replace("a valid number", "a number")
    text = text.replace("a valid boolean", "`yes` or `no`").replace("a valid string", "a text in quotes")
    text = text.replace("a valid tuple", "a tuple").replace("'", "`")
    return _KINDS.get(detail["type"], text)


_KINDS = {
    "model_type": "a call as the language reference lists",
    "tuple_type": "a tuple, as `(0.9, 0.9)` or `3x32x32`",
}


def _nested(term: Term, setting: tree.Setting, detail: ErrorDetails) -> Diagnostic:
    key = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] == "missing":
        return Diagnostic(
            codes.MISSING_SETTING,
            f"`{term.name}` needs `{key}`",
            setting.value.span,
            "nothing",
            f"`{key} = …` among its arguments",
            f"write `{term.name}({key} = …)`",
        )
    place = _argument(setting.value, key) if key else setting.value.span
    what = f"`{key}` of `{term.name}`" if key else f"`{term.name}`"
    return Diagnostic(
        codes.BAD_SETTING,
        f"this is no value for {what}",
        place,
        _shown(detail["input"]),
        _expected(detail),
        "correct the value",
    )


def _shown(value: Any) -> str:
    return describe(value) if isinstance(value, int | float | str | tuple | None) else "a call"


def _report_missing(section: tree.Settings, missing: Iterable[str], found: Diagnostics) -> None:
    for key in missing:
        example = codes.EXAMPLES.get(key, f"{key} = …")
        found.add(
            Diagnostic(
                codes.MISSING_SETTING,
                f"`{section.kind}` needs `{key}`",
                section.span,
                found="nothing",
                expected=f"`{key}`, which has no default",
                help=f"add `{example}`",
            )
        )


def _report(
    section: tree.Settings, settings: tuple[tree.Setting, ...], error: ValidationError, found: Diagnostics
) -> None:
    places = {s.key.id: s for s in settings}
    for detail in _first_per_key(error):
        key = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "missing" and len(detail["loc"]) == 1:
            _report_missing(section, [key], found)
        elif key in places:
            expected = _expected(detail)
            value = _shown(detail["input"])
            found.add(_wrong(key, places[key], value, f"write `{codes.EXAMPLES.get(key, f'{key} = …')}`", expected))
        else:
            raise RuntimeError(f"a setting that was not written is wrong: {section.kind}.{key}: {detail['msg']}")
