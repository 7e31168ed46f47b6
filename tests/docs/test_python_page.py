"""`docs/python.md` runs as it is written, from top to bottom."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCK = re.compile(r'^```python(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    return [(match[1] or "", match[2]) for match in BLOCK.finditer(PAGE.read_text("utf-8"))]


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, (kind, text) in enumerate(blocks()):
        if kind == "with the published file" or (kind == "with lightning" and find_spec("lightning") is None):
            continue
        exec(compile(text, f"{PAGE.name}, block {number + 1}", "exec"), names)
    assert "did you mean `width`" in capsys.readouterr().out
    losses, variations = names["losses"], names["variations"]
    assert isinstance(losses, list) and sum(losses[-5:]) < sum(losses[:5])
    assert isinstance(variations, torch.Tensor) and variations.shape == (64, 1, 8, 8)
    assert str(names["mine"]) == "<hvdsl.Trained vdvae_digits: step 20 of mine.safetensors, on cpu>"


def test_every_block_is_python() -> None:
    assert len(blocks()) > 10
    for kind, text in blocks():
        assert kind in ("", "with lightning", "with the published file")
        compile(text, PAGE.name, "exec")
