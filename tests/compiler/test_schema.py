"""The JSON schema of the settings says what the compiler takes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from hvdsl import specs
from hvdsl.cli.main import main
from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.assembly.schema import schema
from hvdsl.compiler.settings import SECTIONS, keys
from hvdsl.grammar.yaml.printer import print_yaml

PROPERTIES = schema()["properties"]


def test_it_is_plain_json_with_every_key_of_every_section() -> None:
    assert json.loads(json.dumps(schema())) == schema()
    for name, model in SECTIONS.items():
        assert set(keys(model)) <= set(PROPERTIES[name]["properties"])
    assert PROPERTIES["train"]["required"] == ["batch", "optimizer"]


def accepts(section: str, key: str, value: object) -> bool:
    """Whether a form other than "any expression" takes a value."""
    return matches_one(PROPERTIES[section]["properties"][key]["anyOf"][:-1], value)


def matches_one(forms: list[dict[str, Any]], value: object) -> bool:
    for form in forms:
        if "enum" in form and value in form["enum"]:
            return True
        if "pattern" in form and isinstance(value, str) and re.search(form["pattern"], value):
            return True
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = form.get("type") == "integer" and isinstance(value, int)
        if number and (whole or form.get("type") == "number"):
            low = value >= form.get("minimum", value) and value > form.get("exclusiveMinimum", value - 1)
            if low and value <= form.get("maximum", value) and value < form.get("exclusiveMaximum", value + 1):
                return True
    return False


@pytest.mark.parametrize(
    ("section", "key", "value", "taken"),
    [
        ("train", "batch", 16, True),
        ("train", "batch", 0, False),
        ("train", "ema", 0.999, True),
        ("train", "ema", 1, False),
        ("train", "warmup", 100, True),
        ("train", "warmup", "epochs(2)", True),
        ("train", "optimizer", "adam(lr = 1e-3)", True),
        ("train", "optimizer", "adam", False),
        ("train", "precision", "bf16", True),
        ("train", "schedule", "cosine", True),
        ("train", "schedule", "cosinus", False),
        ("data", "shape", "3x32x32", True),
        ("objective", "unit", "nats_per_dim", True),
    ],
)
def test_forms_and_bounds(section: str, key: str, value: object, taken: bool) -> None:
    assert accepts(section, key, value) is taken


@pytest.mark.parametrize("name", specs.names())
def test_the_settings_of_every_shipped_spec_fit_it(name: str) -> None:
    written = yaml.safe_load(print_yaml(assemble(name).spec))
    for key, value in written.items():
        section = key.split()[0]
        if section not in SECTIONS or not isinstance(value, dict):
            continue
        declared = PROPERTIES[section]
        patterns = declared.get("patternProperties", {})
        for setting, text in value.items():
            fields = [form for pattern, form in patterns.items() if re.search(pattern, setting)]
            assert setting in declared["properties"] or fields, (key, setting)
            for form in fields:
                assert matches_one(form["anyOf"], text), (setting, text)
        assert set(declared.get("required", ())) <= set(value), key


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema()))
