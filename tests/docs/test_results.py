"""The results page has the tables of what is kept, and the first screen shows the spec that is drawn beside it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "docs" / "results.md").read_text("utf-8")
KEPT = json.loads((ROOT / "docs" / "results" / "ablations.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablations", ROOT / "scripts" / "ablations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablations"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("study", sorted({record["study"] for record in KEPT}))
def test_the_page_has_the_table_of_each_study(study: str, ablations: ModuleType) -> None:
    assert ablations.table(study, KEPT) in RESULTS


def test_every_variation_has_the_same_seeds() -> None:
    seeds: dict[tuple[str, str], set[int]] = {}
    for record in KEPT:
        seeds.setdefault((record["study"], record["variation"]), set()).add(record["seed"])
    assert len({frozenset(value) for value in seeds.values()}) == 1


def test_the_first_screen_shows_the_spec_that_is_drawn() -> None:
    spec = (ROOT / "docs" / "ladder.hv").read_text("utf-8")
    for page in ("README.md", "AGENTS.md", "docs/language.md"):
        first = re.search(r"^```hv\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
        assert first is not None and first[1] == spec, page
