"""`hvdsl check` of several specs, folders and standard input, and its forms for programs."""

from __future__ import annotations

import io
import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Hvdsl

ROOT = Path(__file__).parents[2]
BROKEN = """hv 1
model broken
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
encoder { 8: con(3x3, 4) -> tap }
group layer { z ~ normal(conv(1x1, 8)) posterior normal(concat(x, skip) -> conv(1x1, 8)); x + (z -> conv(1x1, 4)) }
decoder { 8: learned(zeros, 4) -> layer -> conv(1x1, logits) }
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 2, batch = 4, optimizer = adam(lr = 1e-3) }
"""


@pytest.fixture
def folder(tmp_path: Path, tiny: Path) -> Path:
    place = tmp_path / "specs"
    (place / "lib").mkdir(parents=True)
    (place / ".hidden").mkdir()
    (place / "good.hv").write_text(tiny.read_text())
    (place / "lib" / "cells.hv").write_text("hv 1\ncell a(n) { gelu -> conv(1x1, n) }\n")
    (place / ".hidden" / "bad.hv").write_text("nonsense")
    return place


def test_a_folder_stands_for_its_specs_and_recipes_are_read(hvdsl: Hvdsl, folder: Path) -> None:
    done = hvdsl("check", folder)
    assert done.code == 0, done.err
    assert "good.hv: " in done.out
    assert "cells.hv: recipes" in done.out
    (folder / "bad.hv").write_text(BROKEN)
    done = hvdsl("check", folder, "vdvae_digits")
    assert done.code == 1
    assert "HV0301" in done.err
    assert "vdvae_digits is fine" in done.out  # one bad spec hides no other


def test_a_folder_without_specs_is_told(hvdsl: Hvdsl, tmp_path: Path) -> None:
    done = hvdsl("check", tmp_path)
    assert done.code == 2
    assert "holds no .hv" in done.err


def test_standard_input(hvdsl: Hvdsl, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(tiny.read_text()))
    assert hvdsl("check", "-").out.startswith("<stdin>: ")
    monkeypatch.setattr("sys.stdin", io.StringIO(BROKEN))
    done = hvdsl("check", "-", "--format", "concise")
    assert done.code == 1
    assert done.out.startswith("<stdin>:")


def test_a_line_for_each_mistake(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "b.hv").write_text(BROKEN)
    lines = hvdsl("check", tmp_path / "b.hv", "--format", "concise").out.splitlines()
    assert any(line.startswith(f"{tmp_path}/b.hv:4:14: error[HV0301]: ") for line in lines), lines
    places = [tuple(map(int, line.split(":")[1:3])) for line in lines]
    assert places == sorted(places)


def test_annotations_escape_what_would_end_them(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "a,b.hv").write_text(BROKEN)
    lines = hvdsl("check", tmp_path / "a,b.hv", "--format", "github").out.splitlines()
    assert all(line.startswith("::error title=HV0") and line.count("::") == 2 for line in lines)
    assert any("a%2Cb.hv,line=4,col=14,endLine=4,endColumn=17::" in line for line in lines)


TEXT = {"text!": str, "markdown": str}
SARIF = {
    "$schema": str,
    "version!": ("2.1.0",),
    "runs!": [
        {
            "tool!": {
                "driver!": {
                    "name!": str,
                    "version": str,
                    "rules": [
                        {
                            "id!": str,
                            "shortDescription": TEXT,
                            "fullDescription": TEXT,
                            "help": TEXT,
                            "defaultConfiguration": {"level": ("none", "note", "warning", "error")},
                        }
                    ],
                }
            },
            "columnKind": ("utf16CodeUnits", "unicodeCodePoints"),
            "results": [
                {
                    "ruleId": str,
                    "ruleIndex": int,
                    "level": ("none", "note", "warning", "error"),
                    "message!": {"text": str},
                    "locations": [
                        {
                            "physicalLocation": {
                                "artifactLocation": {"uri": str},
                                "region": {"startLine": int, "startColumn": int, "endLine": int, "endColumn": int},
                            }
                        }
                    ],
                }
            ],
        }
    ],
}
"""What the schema of SARIF 2.1.0 (OASIS, errata 01) says of the properties written here; `!` marks required ones."""


def violations(value: Any, shape: Any, path: str = "") -> list[str]:
    """Where a value is not as the excerpt of the schema has it, which like the schema allows nothing else."""
    if isinstance(shape, dict):
        known = {key.rstrip("!"): kind for key, kind in shape.items()}
        missing = [f"{path} lacks {key[:-1]}" for key in shape if key.endswith("!") and key[:-1] not in value]
        inside = (
            violations(entry, known[key], f"{path}.{key}") if key in known else [f"{path}.{key} is unknown"]
            for key, entry in value.items()
        )
        return [*missing, *chain(*inside)]
    if isinstance(shape, list):
        return list(chain(*(violations(entry, shape[0], f"{path}[]") for entry in value)))
    if isinstance(shape, tuple):
        return [] if value in shape else [f"{path} is {value}"]
    return [] if isinstance(value, shape) and (shape is str or value >= path.endswith(("Line", "Column"))) else [path]


@pytest.mark.parametrize("specs", [("vdvae_digits",), ("a b.hv", "empty.hv", "open.hv")])
def test_sarif_is_as_the_schema_has_it(
    hvdsl: Hvdsl, specs: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.hv").write_text(BROKEN)
    (tmp_path / "empty.hv").touch()
    (tmp_path / "open.hv").write_text('hv 1\nmodel "x')
    monkeypatch.chdir(tmp_path)
    report = json.loads(hvdsl("check", *specs, "--format", "sarif").out)
    assert violations(report, SARIF) == []
    codes = {rule["id"] for rule in report["runs"][0]["tool"]["driver"]["rules"]}
    assert len(codes) == len(report["runs"][0]["tool"]["driver"]["rules"])  # rules are unique
    assert bool(codes) == (len(specs) > 1)
    for rule in report["runs"][0]["tool"]["driver"]["rules"]:
        assert rule["help"]["text"].startswith(rule["fullDescription"]["text"])
        assert "\n\nThis is right:\n\n    hv 1\n" in rule["help"]["markdown"]


def test_a_name_with_a_line_break_stays_on_its_line(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "a\nb.hv").write_text(BROKEN)
    for form in ("concise", "github"):
        lines = hvdsl("check", tmp_path / "a\nb.hv", "--format", form).out.splitlines()
        assert len(lines) == 1 and "HV0301" in lines[0]


def test_sarif_has_a_rule_and_a_region_for_every_result(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "a b.hv").write_text(BROKEN)
    report = json.loads(hvdsl("check", tmp_path / "a b.hv", "--format", "sarif").out)
    (run,) = report["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert report["version"] == "2.1.0"
    assert set(report) == {"$schema", "version", "runs"}
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri == (tmp_path / "a b.hv").as_uri() and uri.endswith("a%20b.hv")
    assert run["columnKind"] == "unicodeCodePoints"
    assert {"startLine": 4, "startColumn": 14, "endLine": 4, "endColumn": 17} in [
        r["locations"][0]["physicalLocation"]["region"] for r in run["results"] if "locations" in r
    ]


def test_several_specs_as_json(hvdsl: Hvdsl, folder: Path) -> None:
    report = json.loads(hvdsl("check", folder, "--json").out)
    assert report["ok"]
    assert [Path(spec["spec"]).name for spec in report["specs"]] == ["good.hv", "cells.hv"]


def test_the_hooks_for_commits_call_commands_that_exist(hvdsl: Hvdsl) -> None:
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        words = hook["entry"].split()
        assert words[0] == "hvdsl"
        assert hvdsl(*words[1:], ROOT / "specs" / "vdvae_digits.hv").code == 0


def test_a_wrong_variant_fails_the_check_of_its_spec(hvdsl: Hvdsl, folder: Path) -> None:
    spec = folder / "good.hv"
    spec.write_text(spec.read_text() + "\nvariant broken { encoder { 8: con(3x3, 4) -> tap } }\n")
    done = hvdsl("check", "--format", "concise", spec)
    assert done.code == 1
    assert "good.hv:24:31: error[HV0301]: nothing is named `con` here, in variant `broken`" in done.out
    assert json.loads(hvdsl("check", "--json", spec).out)["ok"] is False
