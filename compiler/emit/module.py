"""The whole module: header, imports, a class per recipe, the model."""

from __future__ import annotations

import ast
import collections.abc
import typing
from collections.abc import Sequence
from pathlib import PurePath

from hvdsl.compiler.assembly.pixels import parse_pixel_map
from hvdsl.compiler.emit import layout, runtime_index
from hvdsl.compiler.emit.classes import Class, classes
from hvdsl.compiler.emit.constructor import members
from hvdsl.compiler.emit.forms import forms
from hvdsl.compiler.emit.forward import Forward
from hvdsl.compiler.emit.latent_groups import latent_groups
from hvdsl.compiler.emit.likelihood import likelihood
from hvdsl.compiler.emit.names import Names, identifier
from hvdsl.compiler.emit.signature import Signature
from hvdsl.compiler.emit.units import Units
from hvdsl.compiler.graph import Graph, Term
from hvdsl.compiler.settings import Data

FROM_TORCH = {"torch": "import torch", "F": "import torch.nn.functional as F"}


def module_text(graph: Graph, scored: Term, data: Data, title: str, digest: str, version: str) -> str:
    """Write the module of a graph. Equal arguments give equal bytes.

    Raises:
        SpecError: HV08xx, if an operation or likelihood cannot be emitted.
    """
    units = Units(graph)
    names = Names({"Model", *typing.__all__, *collections.abc.__all__})  # what a standalone file imports besides torch
    made = classes(graph, forms(units.root), names)
    parts = [_class(c, units) for c in made[:-1]]
    parts.append(_model(made[-1], units, scored, data, title))
    parts.append([f"Model = {made[-1].name}"])
    body = "\n\n\n".join("\n".join(part) for part in parts)
    header = [
        docstring(
            title or graph.name,
            "",
            [f"Model `{graph.name}`, written by hvdsl {version}.", f"sha256 of the resolved spec: {digest}"],
        ),
        "",
        "from __future__ import annotations",
        "",
        *_imports(body),
    ]
    return "\n".join(header) + "\n\n\n" + body + "\n"


def docstring(first: str, indent: str = "", rest: Sequence[str] = ()) -> str:
    """Quote text, whatever is in it."""
    safe = [_safe(line) for line in (first, *rest)]
    if len(safe) == 1:
        return f'{indent}"""{safe[0]}"""'
    return "\n".join([f'{indent}"""{safe[0]}', "", *(indent + line for line in safe[1:]), f'{indent}"""'])


def _safe(text: str) -> str:
    """Printable text without a backslash, a quotation mark or a line break: it cannot end its string."""
    plain = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "".join(c if c.isprintable() else "?" for c in plain)


def _class(made: Class, units: Units) -> list[str]:
    unit = made.example
    span = unit.scope.span
    where = f"{PurePath(span.source.name).name}:{span.line}"
    signature = Signature(unit, units, unit.outputs)
    lines = [f"class {identifier(made.name)}(nn.Module):"]
    lines.append(docstring(f"`{unit.scope.name}`, {where}.", layout.INDENT))
    if made.entries or made.parameters:
        lines += ["", *_constructor(made)]
    body = Forward(made, units, signature).lines()
    if body:
        lines += ["", *signature.text, *body]
    return lines


def _constructor(made: Class) -> list[str]:
    parameters = "".join(f", {p.name}: {p.annotation}" for p in made.parameters)
    lines = [f"    def __init__(self{parameters}) -> None:"]
    if len(lines[0]) > layout.WIDTH:
        each = [f"        {p.name}: {p.annotation}," for p in made.parameters]
        lines = ["    def __init__(", "        self,", *each, "    ) -> None:"]
    lines.append("        super().__init__()")
    lines += [f"        self.{p.name} = {p.name}" for p in made.parameters if p.kept]
    for name, expression in members(made.entries).items():
        lines += layout.lines(f"self.{identifier(name)} = ", expression, depth=2)
    return lines


def _model(made: Class, units: Units, scored: Term, data: Data, title: str) -> list[str]:
    unit = made.example
    signature = Signature(unit, units, unit.outputs)
    channels, height, width = data.shape
    most = 2**data.bits - 1 if data.binarize == "none" else 1
    lines = [f"class {identifier(made.name)}(nn.Module):", docstring(title or units.graph.name, layout.INDENT), ""]
    lines += latent_groups(units.graph.latents)
    lines += ["", *_constructor(made)]
    lines += layout.lines("self.likelihood = ", likelihood(scored, channels), depth=2)
    shape = f"(N, {channels}, {height}, {width})"
    lines += _pixels("input", data.input, f"Map raw pixels 0 … {most}, {shape}, to what the encoder takes.")
    target = data.input if data.target is None else data.target
    lines += _pixels("target", target, f"Map raw pixels 0 … {most}, {shape}, to what the likelihood scores.")
    lines += ["", *signature.text]
    told = "Return the likelihood's parameters for the mapped image `x`; without an image, generate."
    lines.append(docstring(told, layout.INDENT * 2))
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
