"""The JSON schema of the settings in a spec's YAML form, for editors: derived from the models like everything else."""

from __future__ import annotations

import re
from typing import Any

from hvdsl.compiler.assembly.declared import arguments
from hvdsl.compiler.catalogue.likelihoods import CHOICE
from hvdsl.compiler.catalogue.table import ANY_NUMBER, Argument, ArgumentType, Required, Word
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.settings import SECTIONS

_EXPRESSION = {"type": "string", "description": "an expression, as `2 * width`, or the name of a `let`"}

_FIELD = {
    "description": "a field beside each image: its shape or number of classes, then its settings in braces",
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\S+( classes)?( \{.*\})?$"},
    ],
}


def schema() -> dict[str, Any]:
    """Return a JSON schema (draft 2020-12) of the settings sections and the likelihood of a spec in YAML.

    Every value may also be an expression, which is a string there; `hvdsl check` says more than a schema can.
    """
    sections: dict[str, Any] = {name: _section(name) for name in SECTIONS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of an hvdsl spec",
        "type": "object",
        "properties": sections | {"likelihood": _argument(CHOICE)},
        "patternProperties": {r"^train \w+$": sections["train"]},
    }


def _section(name: str) -> dict[str, Any]:
    declared = arguments(SECTIONS[name])
    properties = {key: _argument(argument) for key, argument in declared.items()}
    if name == "data":  # the word behind `data` in the text form
        properties["source"] = {"type": "string", "description": "a known data set, or the place of the images"}
    required = [key for key, argument in declared.items() if isinstance(argument.default, Required)]
    section = {"type": "object", "properties": properties, "additionalProperties": False}
    if name == "data":
        section["patternProperties"] = {r"^given [A-Za-z_]\w*$": _FIELD}
    return section | ({"required": required} if required else {})


def _argument(argument: Argument) -> dict[str, Any]:
    forms = [*_forms(argument), _EXPRESSION]
    schema: dict[str, Any] = {"anyOf": forms}
    if argument.doc:
        schema["description"] = argument.doc
    if not isinstance(argument.default, Required) and argument.default is not None:
        plain = isinstance(argument.default, bool | int | float)
        schema["default"] = argument.default if plain else describe(argument.default).strip('"')
    return schema


def _forms(argument: Argument) -> list[dict[str, Any]]:
    forms: list[dict[str, Any]] = []
    match argument.type:
        case ArgumentType.INTEGER | ArgumentType.NUMBER:
            forms.append({"type": "integer" if argument.type is ArgumentType.INTEGER else "number"} | _limits(argument))
        case ArgumentType.SWITCH:
            forms.append({"enum": ["yes", "no", True, False]})
        case ArgumentType.TEXT:
            forms.append({"type": "string"})
        case ArgumentType.MAP:
            forms.append({"type": "string", "pattern": r"^\[.*\]$"})
        case ArgumentType.TUPLE:
            pattern = r"^(\(.*\)|\d+(x\d+)*)$"
            forms.append({"type": "string", "pattern": pattern, "description": f"{len(argument.items)} values"})
    called = [word for word in argument.calls if word.arguments]
    bare = [word for word in argument.words if not any(_needs(call) for call in called if call.name == word)]
    if bare:
        forms.append({"enum": bare})
    forms += [
        {"type": "string", "pattern": rf"^{re.escape(call.name)}\(.*\)$", "description": _call(call)} for call in called
    ]
    return forms + (_forms(argument.other) if argument.other is not None else [])


def _needs(call: Word) -> bool:
    return any(isinstance(argument.default, Required) for argument in call.arguments)


def _call(call: Word) -> str:
    parts = [a.name if isinstance(a.default, Required) else f"{a.name} = {describe(a.default)}" for a in call.arguments]
    return f"{call.name}({', '.join(parts)})"


def _limits(argument: Argument) -> dict[str, float]:
    bounds = argument.bounds
    named = {
        "minimum": (bounds.least, ANY_NUMBER.least),
        "maximum": (bounds.most, ANY_NUMBER.most),
        "exclusiveMinimum": (bounds.above, ANY_NUMBER.above),
        "exclusiveMaximum": (bounds.below, ANY_NUMBER.below),
    }
    return {key: value for key, (value, free) in named.items() if value != free}
