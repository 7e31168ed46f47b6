"""Constants: what settings, labels and the likelihood are written in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hvdsl import specs
from hvdsl.compiler.assembly.declared import arguments
from hvdsl.compiler.evaluate.constants import constant_value
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.setting_words import Settings
from hvdsl.compiler.settings import ObjectiveSettings, Train
from hvdsl.grammar import read_expression
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source

TABLES = Path(__file__).parents[2] / "golden" / "nvae_cells" / "tables.json"


def value(text: str, lets: dict[str, str] | None = None, **context: Literal) -> Literal:
    parsed = {name: read_expression(Source("let", e)) for name, e in (lets or {}).items()}
    return constant_value(read_expression(Source("expression", text)), parsed, context)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1_100_000", 1_100_000),
        ("2e-4", 2e-4),
        ("yes", True),
        ("none", None),
        ('"a b"', "a b"),
        ("3x32x32", (3, 32, 32)),
        ("(0.9, 0.999)", (0.9, 0.999)),
        ("[16, 8, 4]", (16, 8, 4)),
        ("6 / 2", 3),
        ("7 / 2", 3.5),
        ("7 // 2", 3),
        ("-2 ** 2", -4),
        ("2 ** 3 ** 2", 512),
        ("1 + 2 * 3 - 4 % 3", 6),
        ("sqrt(16)", 4.0),
        ("max(1, 2, 3)", 3),
        ("len([1, 2])", 2),
        ("1 if 2 < 3 and not no else 1 / 0", 1),
        ("no and 1 / 0 == 1", False),
        ("[8: 1, else: 2][8]", 1),
        ("[8: 1 / 0, else: 2][4]", 2),
    ],
)
def test_values(text: str, expected: Literal) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("section", "key", "text", "expected"),
    [
        (
            ObjectiveSettings,
            "beta",
            "ramp(length = epochs(200))",
            Term("ramp", (), (("length", Term("epochs", (200,))),)),
        ),
        (ObjectiveSettings, "balance", "by_size(square)", Term("by_size", ("square",))),
        (Train, "schedule", "cosine if 1 < 2 else constant", Term("cosine")),
        (Train, "schedule", "plan", Term("cosine", (), (("floor", 1e-4),))),
        (Train, "precision", "[8: fp32, else: bf16][4]", Term("bf16")),
    ],
)
def test_a_word_is_the_whole_value_of_an_argument_that_declares_it(
    section: type[Settings], key: str, text: str, expected: Literal
) -> None:
    wanted = arguments(section)[key]
    lets = {"plan": read_expression(Source("let", "cosine(floor = 1e-4)"))}
    assert constant_value(read_expression(Source("expression", text)), lets, wanted=wanted) == expected


@pytest.mark.parametrize("text", ["zeros", "1 if zeros == 1 else 2", "(zeros, 1)", "min(zeros, 1)", "widht", "tan(1)"])
def test_a_name_is_nothing_anywhere_else(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        value(text)
    assert [d.code.id for d in caught.value.diagnostics] == ["HV0301"]


def test_lets_are_late_bound_and_context_hides_them() -> None:
    assert value("a + 1", {"a": "b * 2", "b": "4"}) == 9
    assert value("res + b", {"b": "4", "res": "0"}, res=8) == 12


@pytest.mark.parametrize("row", [row for row in json.loads(TABLES.read_text())["groups_per_scale"] if row["adaptive"]])
def test_the_presets_expression_gives_the_recorded_groups_of_each_scale(row: dict[str, Any]) -> None:
    expression = re.search(r"^let g += (.+)$", specs.text("nvae_celebahq256"), re.MULTILINE)
    assert expression is not None
    lets = {"g": expression[1], "most": str(row["num_groups"]), "least": str(row["min_groups"])}
    assert [value("g[res]", lets, res=128 >> scale) for scale in range(row["num_scales"])] == row["result"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1 / 0", "HV0403"),
        ("10 ** 400", "HV0403"),
        ("sqrt(0 - 1)", "HV0403"),
        ("yes + 1", "HV0401"),
        ("1 < 2 and 3", "HV0401"),
        ("[8: 1][4]", "HV0404"),
        ("[1, 2][2]", "HV0404"),
        ("[1, 2][0.5]", "HV0402"),
        ("conv(3) -> relu", "HV0406"),
        ("[8: 1]", "HV0406"),
        ("a", "HV0405"),
    ],
)
def test_mistakes(text: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        value(text, {"a": "b", "b": "a"})
    assert [d.code.id for d in caught.value.diagnostics] == [code]
