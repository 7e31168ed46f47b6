"""`hvdsl check SPEC…`: every mistake in one run, against the source line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvdsl.cli.options.shared import add_json, add_set
from hvdsl.cli.output import print_diagnostics, print_json
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check_variants
from hvdsl.errors import UsageError
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Severity, SpecError
from hvdsl.grammar.files import SUFFIXES, read
from hvdsl.grammar.source import Source
from hvdsl.render.diagnostics import as_data, in_order
from hvdsl.workflows.compiling import checked

FORMATS = ("text", "concise", "json", "github", "sarif")


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one spec: a model, or a file of recipes that is only read, or neither."""

    spec: str
    model: Model | None
    diagnostics: Sequence[Diagnostic]
    fine: bool

    @property
    def failed(self) -> bool:
        """Whether it is wrong, and not only questionable."""
        return any(d.severity is Severity.ERROR for d in self.diagnostics)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "specs",
        metavar="SPEC",
        nargs="+",
        help="a file, FILE@VARIANT, the name of a shipped spec, a folder of specs, or - for standard input",
    )
    add_set(parser)
    parser.add_argument("--format", choices=FORMATS, default="text", help="how to print what is found")
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors: exit with 1 if there are any")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    results = [_check(spec, args.overrides, args.strict) for given in args.specs for spec in _specs(given)]
    form = "json" if args.json else args.format
    if form == "text":
        _print_text(results, args.strict)
    elif form == "json":
        data = [_data(result) for result in results]
        several = {"ok": all(result.fine for result in results), "specs": data}
        print_json(data[0] if len(args.specs) == len(data) == 1 else several)
    else:
        _print_for_programs(results, form)
    return int(not all(result.fine for result in results))


def _specs(given: str) -> Iterator[str]:
    """The specs that an argument stands for: those of a folder, in order of their names, or itself."""
    folder = Path(given)
    if not folder.is_dir():
        yield given
        return
    inside = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    files = [path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise UsageError(f"{given} holds no {', '.join(SUFFIXES)} file")
    yield from map(str, files)


def _check(spec: str, overrides: Sequence[str], strict: bool) -> Checked:
    text = Source("<stdin>", sys.stdin.read()) if spec == "-" else spec
    try:
        if spec != "-" and _is_recipes(spec):
            return Checked(spec, None, (), True)
        model = checked(text, overrides)
    except SpecError as failure:
        return Checked(spec, None, failure.diagnostics, False)
    diagnostics = (*model.warnings, *check_variants(model, text, overrides))
    wrong = diagnostics if strict else [d for d in diagnostics if d.severity is Severity.ERROR]
    return Checked(spec, model, diagnostics, not wrong)


def _is_recipes(spec: str) -> bool:
    """Whether a file holds recipes for others to use: then it has no model to be checked, and is only read."""
    path = Path(spec)
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    heads = [item.kind for item in read(path).items if isinstance(item, tree.HeaderNode)]
    recipes = any(isinstance(item, tree.RecipeNode) for item in read(path).items)
    return recipes and not {"model", "extends"} & set(heads)


def _print_text(results: Sequence[Checked], strict: bool) -> None:
    for result in results:
        print_diagnostics(result.diagnostics)
        if result.model is not None and result.fine:
            model = result.model
            print(
                f"{_name(result.spec)}: {model.settings.model} is fine: "
                f"{model.parameter_count:,} parameters, {_groups(model)}"
            )
        elif result.fine:
            print(f"{_name(result.spec)}: recipes, which can be read; specs that use them say the rest")
    if strict and any(result.model is not None and not result.fine and not result.failed for result in results):
        print("--strict: warnings are errors; `# hv: allow CODE` at the end of a line allows one", file=sys.stderr)


def _groups(model: Model) -> str:
    return model.groups if model.is_of_codes else f"{len(model.graph.latents)} latent groups"


def _name(spec: str) -> str:
    return "<stdin>" if spec == "-" else Path(spec).name


def _data(result: Checked) -> dict[str, Any]:
    data: dict[str, Any] = {"ok": result.fine, "spec": result.spec}
    if result.model is not None:
        data["model"] = result.model.settings.model
        data["parameters"] = result.model.parameter_count
        data["latent_groups"] = len(result.model.graph.latents)
    return data | {"diagnostics": [as_data(d) for d in in_order(result.diagnostics)]}


def _print_for_programs(results: Sequence[Checked], form: str) -> None:
    from hvdsl.render.diagnostics import concise, github, sarif

    diagnostics = list(dict.fromkeys(d for result in results for d in in_order(result.diagnostics)))
    if form == "sarif":
        from hvdsl import __version__

        print(json.dumps(sarif(diagnostics, __version__), indent=2))
    else:
        print(github(diagnostics) if form == "github" else concise(diagnostics), end="")
