"""Imports inside the runtime run one way, read from the source text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hvdsl.runtime

ROOT = Path(hvdsl.runtime.__file__).parent
ORDER = (
    "ground",
    "layers",
    "distributions",
    "quantizers",
    "likelihoods",
    "latents",
    "protocol",
    "objective",
    "data",
    "training",
    "inference",
    "codes",
    "priors",
)
"""A part may import itself and those before it. `protocol` is one file: what the rest asks of a model."""


def imports(part: str) -> Iterator[tuple[str, str]]:
    """Files of a part, with the modules of ours that they import."""
    path = ROOT / part
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file} has a relative import"
            yield from ((str(file.relative_to(ROOT)), name) for name in names)


def test_every_part_of_the_runtime_has_its_place():
    parts = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}
    assert parts - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("part", ORDER)
def test_a_part_imports_none_that_comes_after_it(part: str):
    later = ORDER[ORDER.index(part) + 1 :]
    back = [
        f"{file} imports {name}"
        for file, name in imports(part)
        if name.startswith("hvdsl.runtime.") and name.split(".")[2] in later
    ]
    assert not back


def test_the_ground_imports_nothing_of_ours_but_the_errors():
    ours = {name for _, name in imports("ground") if name.startswith("hvdsl") and ".ground" not in name}
    assert ours <= {"hvdsl.errors", "hvdsl.compiler.settings"}  # the second for a type only


@pytest.mark.parametrize("part", ["layers", "distributions", "quantizers", "likelihoods", "latents"])
def test_what_a_model_is_made_of_knows_nothing_of_processes(part: str):
    distributed = [
        f"{file} imports {name}"
        for file, name in imports(part)
        if name.startswith("torch.distributed") or name == "hvdsl.runtime.ground.world"
    ]
    assert not distributed
