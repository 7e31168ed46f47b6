"""`hvdsl --version` says what a report of a bug needs."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import torch

import hvdsl as package
from hvdsl.cli.main import _torch_for_cpus

from .conftest import Hvdsl


def test_it_says_the_versions_and_the_device(hvdsl: Hvdsl) -> None:
    done = hvdsl("--version")
    assert done.code == 0
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = "cpu" if accelerator is None else accelerator.type
    assert done.out.startswith(f"hvdsl {package.__version__}, torch {torch.__version__}, device {device}")


def test_it_does_not_import_torch_to_say_that_a_build_for_cpus_has_no_device() -> None:
    if torch.version.cuda or torch.version.hip or torch.version.xpu or sys.platform == "darwin":
        pytest.skip("this torch is built for an accelerator, which only torch can ask for")
    script = "import sys; from hvdsl.cli.main import main; main(['--version']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("line", ["cuda: Optional[str] = '12.8'", "xpu = '20250101'", ""])
def test_a_build_for_accelerators_is_asked(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`version.py` decides whether torch is imported; what it does not say counts as an accelerator."""
    known = ["__version__ = '2.13.0'", "cuda: Optional[str] = None", "hip: Optional[str] = None", "xpu = None"]
    kind = line.partition(" ")[0].rstrip(":") or "hip"
    lines = [entry for entry in known if not entry.startswith(kind)] + [line]
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").touch()
    (tmp_path / "torch/version.py").write_text("\n".join(lines))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    assert _torch_for_cpus() is None
    (tmp_path / "torch/version.py").write_text("\n".join(known))
    if sys.platform != "darwin":
        assert _torch_for_cpus() == ("2.13.0", "cpu")
