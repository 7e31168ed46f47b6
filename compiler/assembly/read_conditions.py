"""The fields beside an image: `given NAME = 10 classes { … }` in `data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hvdsl.compiler.assembly import declared
from hvdsl.compiler.assembly.pixels import V, parse_pixel_map, pixel_map
from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Bounds
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.binding import SETTING, Slot
from hvdsl.compiler.evaluate.constants import Constants
from hvdsl.compiler.settings import LABEL, ConditionSettings, Data, keys
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Fault

_SIZE = Argument("shape", ArgumentType.INTEGER, words=(), bounds=Bounds(1, 2**20))
_OWN = ("input", "drop", "source", "column")  # what stands in a field's own braces


def read_conditions(
    section: tree.SettingsNode, constants: Constants, lets: Mapping[str, tree.Expr], diagnostics: Diagnostics
) -> tuple[ConditionSettings, ...] | None:
    """Return the fields that `data` declares, in order; None after recording what is wrong."""
    fields: list[ConditionSettings] = []
    failed = False
    for setting in section.settings:
        if isinstance(setting, tree.ConditionNode):
            try:
                fields.append(_condition(setting, constants, lets))
            except Fault as fault:
                diagnostics.add(fault.diagnostic)
                failed = True
    return None if failed else tuple(fields)


def with_label(data: Data) -> Data:
    """Return the settings with `classes` said by `given label`, of which it is the short form."""
    label = next((field for field in data.given if field.name == LABEL), None)
    if label is None or label.classes is None or data.classes is not None:
        return data
    return data.model_copy(update={"classes": label.classes})


def _condition(setting: tree.ConditionNode, constants: Constants, lets: Mapping[str, tree.Expr]) -> ConditionSettings:
    name = setting.key.id
    size = _size(setting, constants)
    values: dict[str, Any] = {"name": name, "shape": size, "classes": size[0] if setting.classes else None}
    arguments = declared.arguments(ConditionSettings)
    for own in setting.settings:
        key = own.key.id
        if key not in _OWN:
            known = ", ".join(f"`{word}`" for word in _OWN)
            message, help = f"a field has no setting `{key}`", did_you_mean(key, _OWN)
            raise Fault(codes.UNKNOWN_SETTING, message, own.key.span, f"`{key}`", known, help)
        if key == "input":
            values[key] = pixel_map(own.value, lets).text
            continue
        slot = Slot(arguments[key], "", own.value.span, SETTING)
        values |= declared.fields(ConditionSettings, key, constants.read(slot, own.value))
    return declared.build_settings(ConditionSettings, values)


def _size(setting: tree.ConditionNode, constants: Constants) -> tuple[int, int, int]:
    """Return channels, height and width: of `1` number, `3x16x16`, `10 classes`."""
    value = constants.evaluate(setting.value)
    sizes = value if isinstance(value, tuple) else (value,)
    numbers = tuple(int(n) for n in sizes if isinstance(n, int) and not isinstance(n, bool))
    if len(sizes) in (1, 3) and len(numbers) == len(sizes):
        whole = not setting.classes or len(numbers) == 1
        if whole and min(numbers) >= 1 and max(numbers) <= 2**20:
            return (numbers[0], 1, 1) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
    raise Fault(
        codes.BAD_SETTING,
        f"`given {setting.key.id}` says what the field is",
        setting.value.span,
        describe(value),
        "a number of classes" if setting.classes else "how many numbers, or channels x height x width",
        f"write `given {setting.key.id} = 10 classes`, `= 1` or `= 3x16x16`",
    )


def check_conditions(data: Data, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Check the fields of `data` against each other, `target` and `weight` with them."""
    spans = {s.key.id: s for s in section.settings if isinstance(s, tree.ConditionNode)}
    written = {s.key.id: s for s in section.settings if not isinstance(s, tree.ConditionNode)}

    def refuse(setting: tree.Setting, message: str, found: str, expected: str, help: str = "") -> None:
        diagnostics.add(Diagnostic(codes.DOES_NOT_APPLY, message, setting.span, found, expected, help))

    label = spans.get(LABEL)
    if label is not None and "classes" in written:
        refuse(written["classes"], "the classes are said twice", "`classes` and `given label`", "one of the two")
    for field in data.given:
        place = spans[field.name]
        if field.name == V or field.name in keys(Data):
            what = "the pixel" if field.name == V else "a setting"
            diagnostics.add(
                Diagnostic(
                    name_codes.RESERVED_NAME,
                    f"`{field.name}` is {what} of `data`, and no name of a field",
                    place.key.span,
                    expected="a name of your own",
                    help="write `given mask = …` and `weight = mask`" if field.name == "weight" else "",
                )
            )
        if field.classes is not None and field.input != V:
            refuse(place, "classes are no numbers to map", f"`input` of `{field.name}`", "no `input`", "remove it")
        if field.source == "image" and (field.classes is not None or field.shape[0] != data.shape[0]):
            channels = data.shape[0]
            refuse(place, "the image has other channels", f"`source = image` of `{field.name}`", f"{channels} channels")
        if field.source == "box" and field.shape != (1, *data.shape[1:]):
            size = "x".join(map(str, (1, *data.shape[1:])))
            refuse(place, "a box is drawn on the image's map", f"`source = box` of `{field.name}`", f"`{size}`")
    _check_target(data, written, refuse)
    _check_weight(data, written, refuse)


def _check_target(data: Data, written: dict[str, tree.Setting], refuse: Any) -> None:
    if data.target is None:
        return
    symbols = parse_pixel_map(data.target, (V, *(f.name for f in data.given))).symbols
    whole = {V} | {f.name for f in data.given if f.shape == data.shape and f.classes is None}
    size = "x".join(map(str, data.shape))
    for field in data.given:
        weighed = field.shape == (1, *data.shape[1:]) and bool(whole & {*symbols})  # one number for a pixel's colours
        if field.name in symbols and (not (field.name in whole or weighed) or field.classes is not None):
            refuse(written["target"], "the target has not the image's shape", f"`{field.name}`", f"a field of {size}")
        elif field.name in symbols and field.drop:
            refuse(
                written["target"], "the target may be dropped", f"`drop` of `{field.name}`", "a field without `drop`"
            )


def _check_weight(data: Data, written: dict[str, tree.Setting], refuse: Any) -> None:
    if data.weight is None:
        return
    symbols = parse_pixel_map(data.weight, [f.name for f in data.given]).symbols
    if not symbols:
        refuse(written["weight"], "a constant weighs nothing", f"`{data.weight}`", "an expression of fields")
    for field in data.given:
        if field.name in symbols and (field.shape != (1, *data.shape[1:]) or field.classes is not None or field.drop):
            size = "x".join(map(str, (1, *data.shape[1:])))
            refuse(written["weight"], "weights are of pixels", f"`{field.name}`", f"a field of {size} without `drop`")
