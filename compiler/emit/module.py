"""The whole module: header, imports, a class per recipe, the model."""

from __future__ import annotations

import ast
import collections.abc
import typing
from collections.abc import Iterable, Mapping, Sequence

from hvdsl.compiler.assembly.pixels import parse_pixel_map
from hvdsl.compiler.emit import layout, runtime_index
from hvdsl.compiler.emit.class_text import class_text, constructor, docstring
from hvdsl.compiler.emit.classes import Class, classes
from hvdsl.compiler.emit.forms import forms
from hvdsl.compiler.emit.forward import Forward
from hvdsl.compiler.emit.latent_groups import latent_groups
from hvdsl.compiler.emit.likelihood import likelihood
from hvdsl.compiler.emit.names import Names, identifier
from hvdsl.compiler.emit.position_steps import position_steps
from hvdsl.compiler.emit.priors import prior_names, prior_parts
from hvdsl.compiler.emit.signature import Signature
from hvdsl.compiler.emit.stepwise.plan import plan
from hvdsl.compiler.emit.units import Units
from hvdsl.compiler.graph import Graph, Term
from hvdsl.compiler.settings import Data

RESERVED = frozenset(
    {"Model", *typing.__all__, *collections.abc.__all__}
)  # what a standalone file imports besides torch
FROM_TORCH = {"torch": "import torch", "F": "import torch.nn.functional as F"}


def module_text(
    graph: Graph, priors: Mapping[str, Graph], scored: Term, data: Data, title: str, digest: str, version: str
) -> str:
    """Write the module of a model and of its second-stage priors. Equal arguments give equal bytes.

    Raises:
        SpecError: HV08xx, if an operation or likelihood cannot be emitted.
    """
    units = Units(graph)
    names = Names({"PRIORS", "STEPS", *RESERVED})
    called = prior_names(priors, names)
    made = classes(forms(units.root), names)
    parts = [class_text(c, units) for c in made[:-1]]
    parts.append(_model(made[-1], units, scored, data, title))
    parts.append([f"Model = {made[-1].name}"])
    if priors:
        parts += prior_parts(priors, called, names)
    return _text(parts, graph.name, title, digest, version)


def priors_text(name: str, priors: Mapping[str, Graph], title: str, digest: str, version: str) -> str:
    """Write a module of second-stage priors alone, for codes that some other model makes.

    Raises:
        SpecError: HV08xx, if an operation cannot be emitted.
    """
    names = Names({"PRIORS", "STEPS", *RESERVED})
    return _text(prior_parts(priors, prior_names(priors, names), names), name, title, digest, version)


def steps_text(
    name: str, priors: Mapping[str, Graph], wanted: Iterable[str], title: str, digest: str, version: str
) -> str:
    """Write a module of the position-by-position forms of the priors of the `wanted` latents.

    Raises:
        SpecError: HV0801, for a prior that has none.
    """
    called = prior_names(priors, Names({"PRIORS", "STEPS", *RESERVED}))
    parts = [position_steps(priors[latent], plan(priors[latent]), called[latent]) for latent in wanted]
    table = [f'    "{identifier(latent)}": {called[latent]}Steps,' for latent in wanted]
    return _text([*parts, ["STEPS = {", *table, "}"]], name, title, digest, version)


def _text(parts: Sequence[Sequence[str]], name: str, title: str, digest: str, version: str) -> str:
    body = "\n\n\n".join("\n".join(part) for part in parts)
    header = [
        docstring(
            title or name,
            "",
            [f"Model `{name}`, written by hvdsl {version}.", f"sha256 of the resolved spec: {digest}"],
        ),
        "",
        "from __future__ import annotations",
        "",
        *_imports(body),
    ]
    return "\n".join(header) + "\n\n\n" + body + "\n"


def _model(made: Class, units: Units, scored: Term, data: Data, title: str) -> list[str]:
    unit = made.example
    signature = Signature(unit, units, unit.outputs)
    channels, height, width = data.shape
    most = 2**data.bits - 1 if data.binarize == "none" else 1
    lines = [f"class {identifier(made.name)}(nn.Module):", docstring(title or units.graph.name, layout.INDENT), ""]
    lines += latent_groups(units.graph.latents)
    lines += ["", *constructor(made)]
    lines += layout.lines("self.likelihood = ", likelihood(scored, channels), depth=2)
    shape = f"(N, {channels}, {height}, {width})"
    lines += _pixels("input", data.input, f"Map raw pixels 0 … {most}, {shape}, to what the encoder takes.")
    target = data.input if data.target is None else data.target
    lines += _pixels("target", target, f"Map raw pixels 0 … {most}, {shape}, to what the likelihood scores.")
    lines += ["", *signature.text]
    told = "Return the likelihood's parameters for the mapped image `x`; without an image, generate."
    lines.append(docstring(told, layout.INDENT * 2))
    lines.append("        latents.begin(self, x)")
    return lines + Forward(made, units, signature).lines()


def _pixels(name: str, text: str, told: str) -> list[str]:
    tree = ast.parse(parse_pixel_map(text).torch(), mode="eval").body
    return [
        "",
        f"    def {name}(self, v: Tensor) -> Tensor:",
        docstring(told, layout.INDENT * 2),
        *layout.lines("return ", tree, depth=2),
    ]


def _imports(body: str) -> list[str]:
    """What the code uses, and nothing else."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    lines = [line for name, line in FROM_TORCH.items() if name in used]
    lines.append(f"from torch import {', '.join(n for n in ('Tensor', 'nn') if n in used)}")
    places = runtime_index.exports()
    wanted: dict[str, list[str]] = {}
    for name in used & set(places):
        wanted.setdefault(places[name], []).append(name)
    lines.append("")
    for place in sorted(wanted):
        lines += _import(place, sorted(wanted[place], key=_isort))
    return lines


def _isort(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order that import sorters use."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


def _import(place: str, names: list[str]) -> list[str]:
    flat = f"from {place} import {', '.join(names)}"
    if len(flat) <= layout.WIDTH:
        return [flat]
    return [f"from {place} import (", *(f"    {name}," for name in names), ")"]
