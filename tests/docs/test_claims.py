"""Figures in the documents have commands, and `scripts/prove.sh` tells what holds from what does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prove() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prove", ROOT / "scripts" / "prove.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prove"] = module
    spec.loader.exec_module(module)
    return module


def test_the_readme_and_the_results_have_claims(prove: ModuleType) -> None:
    pages = {claim.page for claim in prove.claims()}
    assert {"README.md", "docs/results.md"} <= pages


@pytest.mark.parametrize(
    ("expected", "output", "holds"),
    [
        ("39,145,700", "parameters  39,145,700", True),
        ("39,145,700", "parameters  39,145,701", False),
        ("1.73 ± 0.05", "this model 1.701 ± 0.014", True),
        ("1.73 ± 0.05", "this model 1.801", False),
        ("1.73 ± 0.05", "vdvae1.73 of v1.73.2", False),
        ("", "anything", True),
    ],
)
def test_what_a_claim_takes(prove: ModuleType, expected: str, output: str, holds: bool) -> None:
    assert prove.Claim("page", "command", expected, False).holds(output) is holds


def test_a_false_claim_fails(prove: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = (prove.Claim("page", f"echo {n}", "4 ± 1", False) for n in (5, 6))
    monkeypatch.setattr(sys, "argv", ["prove"])
    monkeypatch.setattr(prove, "claims", lambda: [right])
    assert prove.main() == 0
    monkeypatch.setattr(prove, "claims", lambda: [right, wrong])
    assert prove.main() == 1


def test_a_claim_of_absent_data_is_told_and_not_run(
    prove: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prove"])
    monkeypatch.setattr(prove, "ROOT", tmp_path)
    monkeypatch.setattr(prove, "claims", lambda: [prove.Claim("page", "echo --data some.npz", "some.npz", False)])
    assert prove.main() == 0
    assert "there is no some.npz" in capsys.readouterr().out
    (tmp_path / "some.npz").touch()
    assert prove.main() == 0
    assert "holds" in capsys.readouterr().out
