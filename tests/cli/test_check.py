"""`hvdsl check`: what it prints, how it exits, what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import TINY, Hvdsl


def test_a_right_spec_is_fine(hvdsl: Hvdsl, tiny: Path) -> None:
    result = hvdsl("check", tiny)
    assert result.code == 0
    assert "tiny is fine" in result.out
    assert "3 latent groups" in result.out


def test_a_mistake_is_shown_with_its_line_and_a_caret(hvdsl: Hvdsl, tmp_path: Path) -> None:
    path = tmp_path / "wrong.hv"
    path.write_text(TINY.replace("z -> conv(1x1, width)", "z -> conv(1x1, widht)"))
    result = hvdsl("check", path)
    assert result.code == 1
    assert f"{path}:10:23" in result.err
    lines = result.err.splitlines()
    at = next(n for n, line in enumerate(lines) if "widht" in line and "│" in line)
    assert lines[at + 1].index("^") == lines[at].index("widht")
    assert "width" in lines[at + 1] + "".join(lines[at + 2 :])


def test_all_mistakes_are_reported_in_one_run(hvdsl: Hvdsl, tmp_path: Path) -> None:
    path = tmp_path / "wrong.hv"
    path.write_text(
        TINY.replace("conv(3x3, width) -> tap\n", "conv(3x3, widht) -> tap\n").replace("4: learned(", "4: learnt(")
    )
    result = hvdsl("check", path, "--format", "json")
    found = json.loads(result.out)
    assert result.code == 1
    assert not found["ok"]
    assert {d["line"] for d in found["diagnostics"]} == {14, 17}
    assert all(
        {"code", "message", "column", "end_line", "end_column", "help"} <= d.keys() for d in found["diagnostics"]
    )


def test_json_of_a_right_spec_has_no_diagnostics(hvdsl: Hvdsl, tiny: Path) -> None:
    found = json.loads(hvdsl("check", tiny, "--json").out)
    assert found["ok"]
    assert found["diagnostics"] == []
    assert found["latent_groups"] == 3


def test_an_override_reaches_the_model(hvdsl: Hvdsl, tiny: Path) -> None:
    small = json.loads(hvdsl("check", tiny, "--json").out)["parameters"]
    large = json.loads(hvdsl("check", tiny, "--json", "--set", "width=16").out)["parameters"]
    assert large > small


@pytest.mark.parametrize("name", ["nowhere.hv", "vdvae_cifar11"])
def test_a_spec_that_is_not_there_is_one_clear_error(hvdsl: Hvdsl, name: str) -> None:
    result = hvdsl("check", name)
    assert result.code == 1
    assert name in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", [["check"], ["viz", "graph", "-o", "{out}/x.svg"]])
def test_no_torch_is_imported(command: list[str], tmp_path: Path) -> None:
    words = [word.format(out=tmp_path) for word in command]
    program = (
        "import sys\nfrom hvdsl.cli.main import main\n"
        f"code = main({[*words, 'vdvae_ffhq1024']!r})\n"
        "heavy = {'torch', 'numpy', 'rich'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
