"""Read the settings sections of a merged spec; a mistake is a diagnostic at its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from hvdsl.compiler.assembly import declared
from hvdsl.compiler.assembly.pixels import PixelFormula, V, pixel_map
from hvdsl.compiler.assembly.read_conditions import check_conditions, read_conditions, with_label
from hvdsl.compiler.assembly.setting_rules import (
    check_code_levels,
    check_data_settings,
    check_objective_settings,
    check_train_settings,
)
from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Required
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.binding import SETTING, Slot, expected
from hvdsl.compiler.evaluate.constants import Constants
from hvdsl.compiler.setting_words import SettingError, Settings
from hvdsl.compiler.settings import CODES, DATA_NAMES, SECTIONS, Data, ModelSettings, ObjectiveSettings, Train
from hvdsl.compiler.suggest import did_you_mean, synonym
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Fault
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span

Lets = Mapping[str, tree.Expr]
M = TypeVar("M", bound=Settings)


@record
class Pixels(Record):
    """The two pixel maps of `data`, and where the target is written."""

    input: PixelFormula
    target: PixelFormula
    place: Span


def read_settings(spec: tree.Spec, lets: Lets, diagnostics: Diagnostics) -> tuple[ModelSettings | None, Pixels | None]:
    """Return the validated settings of a spec and its pixel maps.

    What is wrong is recorded. Then the settings are those that could be read, so that the rest of the spec can be
    looked at all the same: None where these say no shape.
    """
    sections = {item.kind: item for item in spec.items if isinstance(item, tree.SettingsNode) and item.kind != "train"}
    reader = _Reader(lets, diagnostics)
    data, pixels = reader.data(sections.get("data"))
    objective = reader.section(sections.get("objective"), ObjectiveSettings)
    if objective is not None and reader.is_whole(sections["objective"]):
        check_objective_settings(objective, sections["objective"], diagnostics)
    values: dict[str, Any] = {"data": data, "objective": objective}
    for kind in ("evaluate", "sample"):
        if kind in sections:
            values[kind] = reader.section(sections[kind], SECTIONS[kind])
    values |= reader.trains(spec)
    headers = {item.kind: item.value for item in spec.items if isinstance(item, tree.HeaderNode)}
    model, title = headers.get("model"), headers.get("title")
    if data is None:
        return None, pixels
    values["objective"] = objective or ObjectiveSettings(unit="nats_per_image")
    name = model.id if isinstance(model, tree.Name) else "model"
    text = title.value if isinstance(title, tree.String) else ""
    known = {key: value for key, value in values.items() if value is not None}
    return ModelSettings(model=name, title=text, **known), pixels


class _Reader:
    """Reads sections with the spec's `let`s; what is wrong is recorded, and reading goes on."""

    def __init__(self, lets: Lets, diagnostics: Diagnostics) -> None:
        self._lets, self._diagnostics = lets, diagnostics
        self._constants = Constants(lets, reports=SETTING)
        self._fields: tuple[str, ...] = ()  # that stand beside an image, by the names in `given`
        self._incomplete: list[tree.SettingsNode] = []

    def is_whole(self, section: tree.SettingsNode) -> bool:
        """Whether every setting of a section that was read is as it should be."""
        return not any(section is one for one in self._incomplete)

    def section(
        self, section: tree.SettingsNode | None, model: type[M], extra: Mapping[str, Any] | None = None
    ) -> M | None:
        """Read one section. All settings are tried, so that one run reports every mistake.

        Those that are wrong are left out; None where one is missing that has no default.
        """
        if section is None:
            return None
        arguments = declared.arguments(model)
        values: dict[str, Any] = dict(extra or {})
        lacking = False
        for setting in section.settings:
            if isinstance(setting, tree.ConditionNode):
                continue  # read with `data` by itself
            try:
                values |= self._setting(section.kind, model, setting)
            except Fault as fault:
                self._diagnostics.add(fault.diagnostic)
                self._incomplete.append(section)
        written = {setting.key.id for setting in section.settings}
        written |= {synonym(key, arguments) or key for key in written - set(arguments)}  # told by their own mistake
        fields = {field.alias or name: name for name, field in model.model_fields.items()}
        for key, argument in arguments.items():
            if isinstance(argument.default, Required) and fields[key] not in values:
                lacking = True
                if key not in written:
                    self._diagnostics.add(_missing(section, key))
        return None if lacking else declared.build_settings(model, values)

    def _setting(self, section: str, model: type[Settings], setting: tree.Setting) -> dict[str, Any]:
        key, expr = setting.key.id, setting.value
        argument = declared.arguments(model).get(key)
        if argument is None:
            raise _unknown_key(section, setting, model)
        if argument.type is ArgumentType.PIXELS and not _is_none(argument, expr):
            return {key: self._map(key, expr).text}
        slot = Slot(argument, "", expr.span, SETTING, f"write `{codes.EXAMPLES.get(key, f'{key} = …')}`")
        if argument.type is ArgumentType.MAP:
            return {key: self._by_pattern(model, key, slot, expr)}
        value = self._constants.read(slot, expr)
        try:
            return declared.fields(model, key, value)
        except SettingError as error:
            help = error.help or slot.example
            raise Fault(codes.BAD_SETTING, error.message, expr.span, describe(value), error.expected, help) from None

    def _map(self, key: str, expr: tree.Expr) -> PixelFormula:
        """Read an expression on pixels: `target` may be of a field in place of the image, `weight` is of fields."""
        symbols = {"target": (V, *self._fields), "weight": self._fields}.get(key, (V,))
        return pixel_map(expr, self._lets, symbols)

    def _by_pattern(self, model: type[Settings], key: str, slot: Slot, expr: tree.Expr) -> dict[str, Settings]:
        """Read `["encoder.*": frozen, …]`, or `[z: codes(…), …]`: each key's value is one of the words of the map."""
        if _is_none(slot.argument, expr):
            return {}
        written = self._constants.evaluate(expr)
        entries = written.entries if isinstance(written, tree.MapNode) else ()
        values: dict[str, Settings] = {}
        for entry in entries:
            name = _key_of_map(key, entry.key)
            if name is None or name in values:
                raise _wrong_key(key, expr, entry.key, slot.example)
            (inner,) = slot.argument.items
            value = self._constants.read(
                replace(slot, argument=replace(inner, name=key), span=entry.value.span), entry.value
            )
            values[name] = declared.of_map(model, key, value)
        if not entries:
            found = describe(written)
            raise Fault(
                codes.BAD_SETTING,
                f"this is no value for `{key}`",
                expr.span,
                found,
                expected(slot.argument),
                slot.example,
            )
        return values

    def trains(self, spec: tree.Spec) -> dict[str, Any]:
        """Read how the model and its priors are trained."""
        priors = [item.name.id for item in spec.items if isinstance(item, tree.Prior)]
        values: dict[str, Any] = {"train": None, "train_priors": {}}
        for section in spec.items:
            if not isinstance(section, tree.SettingsNode) or section.kind != "train":
                continue
            train = self.section(section, Train)
            if train is not None and self.is_whole(section):
                check_train_settings(train, section, self._diagnostics)
            if section.name is None:
                values["train"] = train
            elif isinstance(section.name, tree.Name) and section.name.id in priors:
                values["train_priors"] |= {} if train is None else {section.name.id: train}
            else:
                self._diagnostics.add(_unknown_prior(section.name, priors))
        return values

    def data(self, section: tree.SettingsNode | None) -> tuple[Data | None, Pixels | None]:
        """Read `data`, and its pixel maps with it."""
        if section is None:
            return None, None
        name = section.name.id if isinstance(section.name, tree.Name) else None
        if name not in DATA_NAMES:
            self._diagnostics.add(_unknown_data(section, name))
        given = read_conditions(section, self._constants, self._lets, self._diagnostics)
        self._fields = tuple(s.key.id for s in section.settings if isinstance(s, tree.ConditionNode))
        own: dict[str, Any] = {"name": name if name in DATA_NAMES else "images", "given": given or ()}
        if name == CODES:
            own["shape"] = (1, 1, 1)  # not said: there are no images
        data = self.section(section, Data, own)
        if data is None or given is None or not self.is_whole(section):
            return None if given is None else data and with_label(data), None
        data = with_label(data)
        if data.is_codes or data.levels:
            check_code_levels(data, section, self._diagnostics)
            return data, None
        check_data_settings(data, section, self._diagnostics)
        check_conditions(data, section, self._diagnostics)
        written = {s.key.id: s.value for s in section.settings if s.value != tree.Name("none", span=s.span)}
        identity = tree.Name("v", span=section.span)
        into = pixel_map(written.get("input", identity), self._lets)
        target = self._map("target", written["target"]) if "target" in written else into
        place = written.get("target", written.get("input"))
        return data, Pixels(into, target, section.span if place is None else place.span)


def _key_of_map(setting: str, key: tree.Expr | None) -> str | None:
    """A key of a map of settings: a pattern in quotes, or the name of a latent; None where it is neither."""
    if setting == "levels":
        return key.id if isinstance(key, tree.Name) else None
    return key.value if isinstance(key, tree.String) else None


def _wrong_key(setting: str, expr: tree.Expr, key: tree.Expr | None, example: str) -> Fault:
    """Say what the keys of a map of settings are."""
    place = expr if key is None else key
    found = "`else`" if key is None else f"`{place.span.text}`"
    if setting == "levels":
        message, expected, help = "`levels` goes by latents, each once", "the name of a latent", example
    else:
        message = f"`{setting}` goes by patterns of parameter names, each once"
        expected = 'a pattern in quotes, as `"encoder.*"`'
        help = "leave out the others: they are trained as the optimizer says" if key is None else example
    return Fault(codes.BAD_SETTING, message, place.span, found, expected, help)


def _is_none(argument: Argument, expr: tree.Expr) -> bool:
    return argument.default is None and isinstance(expr, tree.Name) and expr.id == "none"


def _missing(section: tree.SettingsNode, key: str) -> Diagnostic:
    return Diagnostic(
        codes.MISSING_SETTING,
        f"`{section.kind}` needs `{key}`",
        section.span,
        found="nothing",
        expected=f"`{key}`, which has no default",
        help=f"add `{codes.EXAMPLES.get(key, f'{key} = …')}`",
    )


def _unknown_key(section: str, setting: tree.Setting, model: type[Settings]) -> Fault:
    """Say that a section has no such setting, and where it is written if it is an argument of another one's word."""
    key = setting.key.id
    arguments = declared.arguments(model)
    inside = next(
        (
            f"write it as `{name} = {call.name}({key} = …)`"
            for name, argument in arguments.items()
            for call in argument.calls
            if any(inner.name == key for inner in call.arguments)
        ),
        "",
    )
    return Fault(
        codes.UNKNOWN_SETTING,
        f"`{section}` has no setting `{key}`",
        setting.key.span,
        f"`{key}`",
        f"a setting of `{section}`",
        inside if inside and not synonym(key, arguments) else did_you_mean(key, arguments),
    )


def _unknown_data(section: tree.SettingsNode, name: str | None) -> Diagnostic:
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


def _unknown_prior(name: tree.Name | tree.String, priors: list[str]) -> Diagnostic:
    return Diagnostic(
        codes.UNKNOWN_PRIOR,
        "`train` of a prior that the spec does not have",
        name.span,
        found=f"`{name.span.text}`",
        expected="the name of a `prior`, or none for the model itself",
        help=did_you_mean(name.span.text, priors),
    )
