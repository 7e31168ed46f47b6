"""The language reference holds: its examples pass check, and nothing is missing from its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS
from hvdsl.compiler.elaboration.environment import CONTEXT_NAMES
from hvdsl.compiler.pipeline import check
from hvdsl.compiler.settings import DATA_NAMES, SECTIONS, keys
from hvdsl.grammar import read_text, read_yaml
from hvdsl.grammar.source import Source

TEXT = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```hv\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_example_is_a_valid_spec(number: int, tmp_path: Path) -> None:
    block = BLOCKS[number]
    (tmp_path / "first.hv").write_text(BLOCKS[0], encoding="utf-8")
    if not block.startswith("hv 1"):
        block = f'hv 1\nmodel fragment\nextends "first.hv"\n{block}'
    path = tmp_path / "example.hv"
    path.write_text(block, encoding="utf-8")
    check(path)


TWO_STAGE = (Path(__file__).parents[2] / "docs" / "two_stage.md").read_text(encoding="utf-8")
TWO_STAGE_BLOCKS = re.findall(r"^```hv\n(.*?)^```", TWO_STAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(TWO_STAGE_BLOCKS)))
def test_every_example_of_two_stages_is_a_valid_spec(number: int) -> None:
    block = TWO_STAGE_BLOCKS[number]
    text = block if block.startswith("hv 1") else f"hv 1\nmodel fragment\n{block}"
    assert check(Source("example.hv", text)).priors


@pytest.mark.parametrize("name", CONTEXT_NAMES)
def test_every_context_name_is_listed(name: str) -> None:
    table = TEXT[TEXT.index("*context names*") : TEXT.index("`step * n` places")]
    assert re.search(rf"^\|[^|]*`{name}`[^|]*\|", table, flags=re.MULTILINE)


def test_the_yaml_example_is_the_first_spec() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    yaml, text = read_yaml(Source("first.yaml", block)), read_text(Source("first.hv", BLOCKS[0]))
    assert {type(i).__name__: i for i in yaml.items} == {type(i).__name__: i for i in text.items}
    assert assemble(yaml).settings == assemble(text).settings


@pytest.mark.parametrize(
    "name", [*LIKELIHOODS, *DATA_NAMES, *(key for section in SECTIONS.values() for key in keys(section))]
)
def test_every_setting_and_likelihood_is_listed(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", TEXT)
