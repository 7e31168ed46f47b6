"""The page on the architecture names what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import hvdsl

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PLAIN = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
PATHS = sorted({name for name in re.findall(r"`([^`\s]+)`", PLAIN) if "/" in name})
NAMES = sorted(
    set(re.findall(r"`([A-Z]\w+(?:\.\w+)?)`", PLAIN)) - {"BottleneckOfConcat"}
)  # which the compiler makes up


def defined() -> dict[str, ast.stmt]:
    """What the modules of the project define at their top."""
    found: dict[str, ast.stmt] = {}
    for folder in ("grammar", "compiler", "runtime", "hvdsl/cli", "hvdsl/workflows", "hvdsl/report"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in names_of(node):
                    found[name] = node
    return found


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def test_it_names_enough_to_be_checked() -> None:
    assert len(PATHS) > 50 and len(NAMES) > 40


@pytest.mark.parametrize("path", PATHS)
def test_files_and_folders_are_there(path: str) -> None:
    place = ROOT / path
    assert place.is_dir() if path.endswith("/") else place.exists()


def test_classes_and_constants_are_defined() -> None:
    known = defined()
    for name in NAMES:
        first, _, attribute = name.partition(".")
        assert first in known, name
        if attribute:
            owner = known[first]
            assert isinstance(owner, ast.ClassDef) and attribute in [n for s in owner.body for n in names_of(s)], name


def test_functions_that_it_names_with_a_module_are_in_it() -> None:
    pairs = re.findall(r"`(\w+)` (?:in|of)\s+`([\w/]+\.py)`", PLAIN)
    assert len(pairs) >= 4
    for name, path in pairs:
        body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        assert name in [n for node in body for n in names_of(node)], (name, path)


def test_the_emitted_code_is_what_is_emitted() -> None:
    (excerpt,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert excerpt in hvdsl.compile("vdvae_digits").source


def test_no_file_has_more_than_450_lines() -> None:
    folders = ("grammar", "compiler", "runtime", "hvdsl")  # the first three are links within the last
    files = {path.resolve() for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert len(files) > 200
    assert [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 450] == []


PUBLISHED = {"Source"}  # `hvdsl.Source` is a text; a standalone file's `Source` says where a latent comes from


def test_no_public_class_is_defined_twice() -> None:
    places: dict[str, set[str]] = {}
    folders = ("grammar", "compiler", "runtime", "hvdsl")
    for path in {path.resolve() for folder in folders for path in (ROOT / folder).rglob("*.py")}:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(str(path.relative_to(ROOT)))
    twice = {name: sorted(files) for name, files in places.items() if len(files) > 1}
    assert twice.keys() == PUBLISHED, twice
