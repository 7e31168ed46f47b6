"""`docs/watching.md` runs as it is written; its search on fewer steps."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "watching.md"
BLOCK = re.compile(r'^```python(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def block(kind: str) -> str:
    (text,) = [match[2] for match in BLOCK.finditer(PAGE.read_text("utf-8")) if (match[1] or "") == kind]
    return text


def run(text: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(text, PAGE.name, "exec"), names)
    return names


def test_a_sink_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    points = run(block(""))["curve"].points  # type: ignore[attr-defined]
    assert [step for step, _ in points] == [2, 4, 6]
    assert all(2 < bits < 4 for _, bits in points)


@pytest.mark.skipif(find_spec("optuna") is None, reason="Optuna is not installed")
def test_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = block("with optuna")
    for written, small in (
        ("steps=1000", "steps=4, batch=16"),
        ('every": 100', 'every": 2'),
        ("n_trials=20", "n_trials=4"),
    ):
        assert written in text
        text = text.replace(written, small)
    study = run(text)["study"]
    states = [trial.state.name for trial in study.trials]  # type: ignore[attr-defined]
    assert len(states) == 4 and set(states) <= {"COMPLETE", "PRUNED"} and states.count("COMPLETE") >= 2
    assert all(next(iter(trial.intermediate_values)) == 2 for trial in study.trials)  # type: ignore[attr-defined]
