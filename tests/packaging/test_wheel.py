"""The wheel holds everything: installed outside the checkout it compiles every shipped spec."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
import hvdsl
from hvdsl.cli.main import main
from hvdsl.compiler.assembly.files import shipped
assert Path(hvdsl.__file__).is_relative_to(sys.prefix), hvdsl.__file__
names = sorted(path.stem for path in shipped().glob("*.hv"))
codes = [main(["compile", name, "-o", f"{name}.py"]) for name in names]
codes.append(main(["viz", "graph", names[0], "-o", "graph.png"]))
print(len(names), set(codes))
"""


@pytest.mark.slow
def test_the_wheel_compiles_every_shipped_spec(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=True, system_site_packages=False)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = tmp_path.glob("*.whl")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # What it depends on comes from the environment that runs the tests; hvdsl itself must not.
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    lent = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "lent.pth").write_text(lent)
    done = subprocess.run([python, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shipped = len(list((ROOT / "specs").glob("*.hv")))
    assert done.stdout.split("\n")[-2] == f"{shipped} {{0}}", done.stdout + done.stderr
