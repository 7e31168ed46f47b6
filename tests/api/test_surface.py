"""The public names and signatures, as they were reviewed; commands and functions have the same options."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import hvdsl
from hvdsl.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).with_name("surface.txt")

# The options of a command, by the functions that it is in Python; the rest says how results are shown or written.
FUNCTIONS: dict[str, tuple[Callable[..., object], ...]] = {
    "compile": (hvdsl.compile,),
    "train": (hvdsl.train,),
    "eval": (hvdsl.load, hvdsl.Trained.evaluate),
    "score": (hvdsl.load, hvdsl.Trained.score),
    "export": (hvdsl.load, hvdsl.Trained.export),
    "interpolate": (hvdsl.load, hvdsl.Trained.interpolate),
    "sample": (hvdsl.load, hvdsl.Trained.sample),
    "reconstruct": (hvdsl.load, hvdsl.Trained.reconstruct),
    "decode": (hvdsl.load, hvdsl.Trained.decode),
    "import": (hvdsl.import_weights,),
}
SHOWN = {
    "compile": {"output", "standalone", "steps"},  # methods of what is compiled
    "train": {"dry_run", "world_size", "device_memory", "throughput"},  # what is said before there is a run
    "eval": {"output", "json", "threads"},
    "score": {"output", "json", "threads", "against", "roc"},  # two results, compared by `Scores.roc`
    "export": {"threads"},
    "interpolate": {"output", "threads"},
    "sample": {"output", "threads"},
    "reconstruct": {"output", "threads", "number", "depths", "split", "data"},  # which images, and how many rows
    "decode": {"output", "threads"},
}
IN_PYTHON = {
    "compile": {"passes", "variant"},
    "train": {"console"},
    "eval": {"images", "console"},
    "score": {"images", "console"},
    "export": {"console", "device"},  # programs are traced on the CPU
    "reconstruct": {"images", "keep"},
    "decode": {"use_ema", "overrides"},
}


def surface() -> str:
    """Every public name with its signature; of classes, their public members."""
    lines = []
    for name in hvdsl.__all__:
        value = getattr(hvdsl, name)
        if isinstance(value, type):
            bases = ", ".join(base.__name__ for base in value.__bases__)
            lines.append(f"class {name}({bases})")
            if not issubclass(value, Exception):
                lines += [f"    {line}" for line in _members(value)]
        elif callable(value):
            lines.append(f"{name}{inspect.signature(value)}")
        else:
            lines.append(name)
    return "\n".join(lines) + "\n"


def _members(of: type) -> list[str]:
    fields = [f"{name}: {kind}" for name, kind in inspect.get_annotations(of).items() if not name.startswith("_")]
    methods = []
    ours = [kind for kind in reversed(of.__mro__) if kind.__module__.startswith("hvdsl")]
    for name, member in sorted({name: m for kind in ours for name, m in vars(kind).items()}.items()):
        if name.startswith("_") and not name.startswith("_repr"):
            continue
        if isinstance(member, property):
            methods.append(f"{name} -> {inspect.signature(member.fget).return_annotation}" if member.fget else name)
        elif inspect.isfunction(member):
            methods.append(f"{name}{inspect.signature(member)}")
    return fields + methods


def test_the_surface_is_the_reviewed_one() -> None:
    """After a change on purpose: `HVDSL_UPDATE=1 pytest tests/api/test_surface.py`, and review the difference."""
    if os.environ.get("HVDSL_UPDATE"):
        RECORDED.write_text(surface(), "utf-8")
    recorded = RECORDED.read_text("utf-8")
    assert surface() == recorded, "".join(difflib.unified_diff(recorded.splitlines(True), surface().splitlines(True)))


@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_command_has_the_options_of_its_functions(command: str) -> None:
    parameters = {name for f in FUNCTIONS[command] for name in inspect.signature(f).parameters} - {"self"}
    parser = build_parser(command)
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    flags = {action.dest for action in subparsers.choices[command]._actions} - {"help"}
    assert flags - SHOWN.get(command, set()) == parameters - IN_PYTHON.get(command, set())


def test_every_public_name_says_what_it_is() -> None:
    for name in hvdsl.__all__:
        value = getattr(hvdsl, name)
        if name == "__version__":
            continue
        assert inspect.getdoc(value), name
        if callable(value) and not isinstance(value, type):
            assert "Example" in (inspect.getdoc(value) or ""), name
            assert "Raises:" in (inspect.getdoc(value) or "") or name == "build", name


def test_errors_are_one_tree() -> None:
    errors = [value for name in hvdsl.__all__ if isinstance(value := getattr(hvdsl, name), type)]
    errors = [value for value in errors if issubclass(value, Exception)]
    assert len(errors) > 5
    assert all(issubclass(error, hvdsl.Error) for error in errors)


def test_only_the_command_line_parses_arguments_and_prints() -> None:
    parsing, printing = [], []
    for folder in ("hvdsl", "compiler", "runtime", "grammar"):
        for path in (ROOT / folder).rglob("*.py"):
            place = path.relative_to(ROOT)
            if place.parts[:2] in {("hvdsl", "cli"), ("hvdsl", "compiler"), ("hvdsl", "runtime"), ("hvdsl", "grammar")}:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                    if any(name.split(".")[0] == "argparse" for name in names):
                        parsing.append(str(place))
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    printing.append(str(place))
    assert parsing == []
    assert printing == []


def test_every_command_is_one_file_by_its_name() -> None:
    files = {path.stem.rstrip("_") for path in (ROOT / "hvdsl/cli/commands").glob("*.py")} - {""} - {"__init"}
    assert files == {name for name, _, _ in COMMANDS}
    assert all(module.rstrip("_") == name for name, module, _ in COMMANDS)


def test_importing_the_package_imports_neither_torch_nor_the_compiler() -> None:
    import subprocess
    import sys

    script = "import sys, hvdsl; hvdsl.Error, hvdsl.__version__; bad = {'torch', 'hvdsl.compiler', 'numpy'}"
    done = subprocess.run([sys.executable, "-c", f"{script}; sys.exit(bool(bad & set(sys.modules)))"], check=False)
    assert done.returncode == 0


def test_a_compiled_spec_is_one_line_and_a_page() -> None:
    compiled = hvdsl.compile("vdvae_digits", overrides={"width": 16})
    assert repr(compiled) == "<hvdsl.Compiled vdvae_digits: 1x8x8, 13,877 parameters, 8 latent groups>"
    assert len(repr(compiled.model)) < 5_000
    page = compiled._repr_html_()
    assert "<svg" in page and "13,877" in page and "<table>" in page and "encoder blocks" in page
    assert compiled._repr_svg_().startswith("<svg")
