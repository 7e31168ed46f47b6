"""The wheel holds everything: installed outside the checkout it compiles every shipped spec."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Some shipped specs use what no layer runs yet: those are refused by name, the same here and there.
PROGRAM = """
import json, sys
import hvdsl
from hvdsl.cli.main import main
from hvdsl.compiler.assembly.files import shipped
names = sorted(path.stem for path in shipped().glob("*.hv"))
out = sys.argv[1]
checked = [main(["check", name, "--json"]) for name in names]
compiled = {name: main(["compile", name, "-o", f"{out}/{name}.py"]) for name in names}
drawn = main(["viz", "graph", names[0], "-o", f"{out}/graph.png"])
print()
print(json.dumps({"at": hvdsl.__file__, "checked": checked, "compiled": compiled, "drawn": drawn}))
"""


def run_program(python: Path | str, cwd: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    done = subprocess.run([str(python), "-c", PROGRAM, str(out)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_wheel_compiles_every_shipped_spec(tmp_path: Path) -> None:
    # A copy: a `build/` folder of earlier builds could lend files that a fresh checkout would lack.
    source = tmp_path / "source"
    leave = shutil.ignore_patterns(".*", "build", "dist", "demo", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=leave)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=True, system_site_packages=False)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= 2 * 1024 * 1024
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # What it depends on comes from the environment that runs the tests; hvdsl itself must not.
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lent))
    installed = run_program(python, tmp_path, tmp_path / "installed")
    here = run_program(sys.executable, ROOT, tmp_path / "here")
    assert Path(installed["at"]).is_relative_to(tmp_path / "venv")
    assert len(installed["compiled"]) == len(list((ROOT / "specs").glob("*.hv")))
    assert set(installed["checked"]) == {0}
    assert installed["compiled"] == here["compiled"]
    assert installed["compiled"]["vdvae_cifar10"] == 0
    assert installed["drawn"] == 0
