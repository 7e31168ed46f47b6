"""A checkout whose symbolic links are text files, as git leaves them where a system has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKED = ("compiler", "grammar", "runtime", "specs")
PROGRAM = """
import hvdsl, hvdsl.compiler, hvdsl.grammar, hvdsl.runtime, hvdsl.specs
print(*(module.__file__ for module in (hvdsl, hvdsl.compiler, hvdsl.grammar, hvdsl.runtime, hvdsl.specs)), sep="\\n")
try:
    import hvdsl.hvdsl
except ModuleNotFoundError as error:
    print(error.name)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this working tree with `core.symlinks=false`."""
    folder = tmp_path_factory.mktemp("clone")
    origin, clone = folder / "origin", folder / "hvdsl"
    for name in ("hvdsl", *LINKED):
        shutil.copytree(ROOT / name, origin / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, origin)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    subprocess.run([*git, "-c", "core.symlinks=false", "clone", "-q", str(origin), str(clone)], check=True)
    return clone


def python(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, env=environment)


def test_it_has_no_links(checkout: Path) -> None:
    assert [(checkout / "hvdsl" / name).read_text() for name in LINKED] == [f"../{name}" for name in LINKED]


def test_it_imports_its_own_packages_and_itself_only_once(checkout: Path) -> None:
    done = python(checkout, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    *places, refused = done.stdout.splitlines()
    folders = [checkout / "hvdsl", *(checkout / name for name in LINKED)]
    assert places == [str(folder / "__init__.py") for folder in folders]
    assert refused == "hvdsl.hvdsl"


def test_the_command_line_works(checkout: Path) -> None:
    done = python(checkout, "-m", "hvdsl", "check", "vdvae_digits")
    assert done.returncode == 0, done.stderr


def test_a_wheel_is_refused_with_the_reason(checkout: Path) -> None:
    done = python(checkout, "setup.py", "-q", "bdist_wheel")
    assert done.returncode != 0
    assert "this checkout has no symbolic links (hvdsl/compiler, hvdsl/grammar" in done.stderr
    assert "core.symlinks=true" in done.stderr


@pytest.mark.slow
def test_the_tests_of_grammar_pass_and_those_of_the_compiler_can_be_run(checkout: Path) -> None:
    for name in ("tests", "benchmarks"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (["tests/grammar", "tests/compiler/elaborate"], ["--collect-only", "tests/compiler"]):
        done = python(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *arguments)
        assert done.returncode == 0, done.stdout[-3000:]
