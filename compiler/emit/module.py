"""The whole module: header, imports, a class per recipe, the model; `let`s as constants, expressions as comments."""

from __future__ import annotations

import ast
import collections.abc
import re
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from hvdsl.compiler.catalogue.table import LayerCall
from hvdsl.compiler.emit import runtime_index, syntax
from hvdsl.compiler.emit.modules.class_text import class_text, docstring
from hvdsl.compiler.emit.modules.classes import ModuleClass, classes, grouped_instances
from hvdsl.compiler.emit.modules.instance import ModuleInstance
from hvdsl.compiler.emit.modules.model_text import model_class, prior_class
from hvdsl.compiler.emit.modules.tree import ModuleTree
from hvdsl.compiler.emit.stepwise.steps_text import position_steps
from hvdsl.compiler.emit.syntax import Names, camel, word
from hvdsl.compiler.graph import Graph, Literal, Named, Term, Written
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
    tree = ModuleTree(graph)
    prior_trees = {latent: ModuleTree(prior) for latent, prior in priors.items()}
    names = Names({"PRIORS", "STEPS", *RESERVED})
    class_names = prior_names(priors, names)
    constants, definitions = _let_constants((t.root for t in (tree, *prior_trees.values())), names)
    module_classes = classes(grouped_instances(tree.root), names, constants)
    parts = [class_text(c, tree) for c in module_classes[:-1]]
    parts.append(model_class(module_classes[-1], tree, scored, data, title))
    parts.append([f"Model = {module_classes[-1].name}"])
    if priors:
        parts += prior_parts(prior_trees, class_names, names, constants)
    texts = _expression_texts((graph, *priors.values()))
    return _text(parts, graph.name, title, digest, version, definitions, texts)


def priors_text(name: str, priors: Mapping[str, Graph], title: str, digest: str, version: str) -> str:
    """Write a module of second-stage priors alone, for codes that some other model makes.

    Raises:
        SpecError: HV08xx, if an operation cannot be emitted.
    """
    names = Names({"PRIORS", "STEPS", *RESERVED})
    class_names, trees = prior_names(priors, names), {latent: ModuleTree(prior) for latent, prior in priors.items()}
    constants, definitions = _let_constants((tree.root for tree in trees.values()), names)
    parts = prior_parts(trees, class_names, names, constants)
    return _text(parts, name, title, digest, version, definitions, _expression_texts(priors.values()))


def steps_text(
    name: str, priors: Mapping[str, Graph], wanted: Iterable[str], title: str, digest: str, version: str
) -> str:
    """Write a module of the position-by-position forms of the priors of the `wanted` latents.

    Raises:
        SpecError: HV0801, for a prior that has none.
    """
    class_names = prior_names(priors, Names({"PRIORS", "STEPS", *RESERVED}))
    parts = [position_steps(priors[latent], class_names[latent]) for latent in wanted]
    table = [f'    "{word(latent)}": {class_names[latent]}Steps,' for latent in wanted]
    return _text([*parts, ["STEPS = {", *table, "}"]], name, title, digest, version)


def prior_names(priors: Mapping[str, Graph], names: Names) -> dict[str, str]:
    """Name the priors' classes, and take the names of their steps: `ZTopPrior` and `ZTopPriorSteps`.

    They follow from the latents alone, so that files that are written apart fit together.
    """
    class_names = {}
    for latent in priors:
        class_names[latent] = names.take(f"{camel(latent)}Prior")
        names.take(f"{class_names[latent]}Steps")
    return class_names


def prior_parts(
    trees: Mapping[str, ModuleTree], class_names: Mapping[str, str], names: Names, constants: Mapping[str, str]
) -> list[list[str]]:
    """Write the classes of all priors, and the table `PRIORS` of them by their latents."""
    module_classes = classes(grouped_instances(*(tree.root for tree in trees.values())), names, constants)
    parts: list[list[str]] = []
    for latent, tree in trees.items():
        own = [c for c in module_classes if c.example.graph is tree.graph]  # recipes that no earlier prior has written
        parts += _prior(own, tree, class_names[latent])
    table = [f'    "{word(latent)}": {name},' for latent, name in class_names.items()]
    return [*parts, ["PRIORS = {", *table, "}"]]


def _prior(module_classes: Sequence[ModuleClass], tree: ModuleTree, name: str) -> list[list[str]]:
    *recipes, whole, _ = module_classes  # last the graph itself, which holds but the section
    return [*(class_text(c, tree) for c in recipes), prior_class(whole, name, tree.graph, tree)]


def _text(
    parts: Sequence[Sequence[str]],
    name: str,
    title: str,
    digest: str,
    version: str,
    definitions: Sequence[str] = (),
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Lay a module out: its header, the constants that it uses, its classes with comments on computed fractions."""
    body = "\n\n\n".join("\n".join(_with_comments(part, texts)) for part in parts)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    constants = [line for line in definitions if line.partition(" ")[0] in used]
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
    return "\n".join([*header, *(["", *constants] if constants else [])]) + "\n\n\n" + body + "\n"


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
    if len(flat) <= syntax.WIDTH:
        return [flat]
    return [f"from {place} import (", *(f"    {name}," for name in names), ")"]


ATTRIBUTES = ("CODES", "CONDITIONS", "LATENTS", "STEPS")  # of emitted classes, or a table: `let codes` is `N_CODES`
FRACTION = re.compile(r"(?<![\w.])\d+\.\d{6,}(?:e-?\d+)?(?![\w.])|(?<![\w.])\d+(?:\.\d+)?e-\d+(?![\w.])")


def _let_constants(roots: Iterable[ModuleInstance], names: Names) -> tuple[dict[str, str], list[str]]:
    """Name the `let`s that are whole arguments of layers and have one value everywhere; also, their definitions.

    `let width = 384` becomes `WIDTH = 384`.
    """
    values: dict[str, set[int]] = defaultdict(set)
    for root in roots:
        for value in _values(root):
            for number in _flat(value):
                if isinstance(number, Named):
                    values[number.let].add(int(number))
    single = {let: next(iter(found)) for let, found in sorted(values.items()) if len(found) == 1}
    called = {let: names.take(f"N_{let.upper()}" if let.upper() in ATTRIBUTES else let.upper()) for let in single}
    return called, [f"{called[let]} = {value}" for let, value in single.items()]


def _values(instance: ModuleInstance) -> Iterator[Literal]:
    """The arguments of all layers."""
    for entry in instance.entries.values():
        if isinstance(entry, LayerCall):
            yield from entry.args
            yield from (value for _, value in entry.options)
    for part in instance.parts():
        yield from _values(part)


def _flat(value: Literal) -> Iterator[Literal]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, Term):
        for item in (*value.args, *(v for _, v in value.options)):
            yield from _flat(item)
    else:
        yield value


def _expression_texts(graphs: Iterable[Graph]) -> Mapping[str, str]:
    """The text of each computed fraction by its digits, where all that have these digits were written alike."""
    texts: dict[str, set[str]] = defaultdict(set)
    for graph in graphs:
        for node in graph.nodes:
            for number in (n for value in node.args.values() for n in _flat(value)):
                if isinstance(number, Written):
                    texts[repr(float(number))].add(" ".join(number.text.split()))
    return {digits: next(iter(found)) for digits, found in texts.items() if len(found) == 1}


def _with_comments(lines: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """Say behind each line (or above it, where there is no room) what its fractions were computed from."""
    done: list[str] = []
    for line in lines:
        found = dict.fromkeys(texts[digits] for digits in FRACTION.findall(line) if digits in texts)
        if not found:
            done.append(line)
            continue
        comment = "# " + ", ".join(found)
        indent = line[: len(line) - len(line.lstrip())]
        beside = f"{line}  {comment}"
        done += [beside] if len(beside) <= syntax.WIDTH else [f"{indent}{comment}", line]
    return done
