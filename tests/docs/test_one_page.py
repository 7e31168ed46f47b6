"""AGENTS.md holds: its specs pass check, its mistakes give the codes that it says, its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import SpecError

TEXT = (Path(__file__).parents[2] / "AGENTS.md").read_text("utf-8")
BLOCKS = re.findall(r"^```hv(?: bad (HV\d{4}))?\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
FIRST = BLOCKS[0][1]


@pytest.mark.parametrize(("code", "block"), BLOCKS, ids=[code or f"fine-{i}" for i, (code, _) in enumerate(BLOCKS)])
def test_a_block_is_fine_or_gives_its_code(code: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "first.hv").write_text(FIRST, "utf-8")
    path = tmp_path / "block.hv"
    path.write_text(block if block.startswith("hv 1") else f'hv 1\nmodel block\nextends "first.hv"\n{block}', "utf-8")
    if not code:
        check(path)
        return
    with pytest.raises(SpecError) as wrong:
        check(path)
    assert {diagnostic.code.id for diagnostic in wrong.value.diagnostics} == {code}


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ladder.hv").write_text(FIRST, "utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block.replace("steps=20", "steps=2"), "AGENTS.md", "exec"), names)
    assert getattr(names["trained"], "step") == 2  # noqa: B009


def test_it_is_one_page() -> None:
    assert len(TEXT.splitlines()) <= 220
