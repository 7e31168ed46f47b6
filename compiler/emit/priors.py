"""Second-stage priors as classes: from code maps to logits."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from hvdsl.compiler.emit import layout, literals
from hvdsl.compiler.emit.analysis import given_name
from hvdsl.compiler.emit.class_text import class_text, constructor, docstring
from hvdsl.compiler.emit.classes import Class, classes
from hvdsl.compiler.emit.forms import forms
from hvdsl.compiler.emit.forward import Forward
from hvdsl.compiler.emit.names import Names, camel, identifier
from hvdsl.compiler.emit.signature import Signature
from hvdsl.compiler.emit.units import Units
from hvdsl.compiler.emit.variables import allowed
from hvdsl.compiler.graph import Graph, Node


def prior_names(priors: Mapping[str, Graph], names: Names) -> dict[str, str]:
    """Name the priors' classes, and take the names of their steps: `ZTopPrior` and `ZTopPriorSteps`.

    They follow from the latents alone, so that files that are written apart fit together.
    """
    called = {}
    for latent in priors:
        called[latent] = names.take(f"{camel(latent)}Prior")
        names.take(f"{called[latent]}Steps")
    return called


def prior_parts(priors: Mapping[str, Graph], called: Mapping[str, str], names: Names) -> list[list[str]]:
    """Write the classes of all priors, and the table `PRIORS` of them by their latents."""
    read = {latent: Units(graph) for latent, graph in priors.items()}
    made = classes(forms(*(units.root for units in read.values())), names)
    parts: list[list[str]] = []
    for latent, units in read.items():
        own = [c for c in made if c.example.graph is units.graph]  # recipes that no earlier prior has written
        parts += _prior(own, units, called[latent])
    table = [f'    "{identifier(latent)}": {name},' for latent, name in called.items()]
    return [*parts, ["PRIORS = {", *table, "}"]]


def _prior(made: Sequence[Class], units: Units, name: str) -> list[list[str]]:
    *recipes, whole, _ = made  # last the graph itself, which holds but the section
    return [*(class_text(c, units) for c in recipes), _prior_class(whole, name, units.graph, units)]


def _prior_class(made: Class, name: str, graph: Graph, units: Units) -> list[str]:
    unit = made.example
    given = inputs(graph)
    names = [allowed(given_name(node)) for node in given]
    lines = [
        f"class {name}(nn.Module):",
        docstring(f"The prior of `{graph.name}`: logits of each code from those before it.", layout.INDENT),
        "",
    ]
    lines += layout.lines("CODES = ", _code_map(given[0]), depth=1)
    lines += layout.lines("CONDITIONS = ", ast.Tuple([_code_map(node) for node in given[1:]], ast.Load()), depth=1)
    lines += ["", *constructor(made), ""]
    parameters = ", ".join(f"{n}: Tensor" for n in names)
    lines += [f"    def forward(self, {parameters}) -> Tensor:"]
    told = "Return logits `(N, K, H, W)`; `{}` are codes `(N, H, W)`.".format("`, `".join(names))
    lines.append(docstring(told, layout.INDENT * 2))
    live = {v.node for v in unit.inputs}
    for node, argument in zip(given, names, strict=True):
        if node.index in live:
            lines.append(
                f"        {argument} = one_hot({argument}, {int(str(node.args['classes']))}, next(self.parameters()))"
            )
    return lines + Forward(made, units, Signature(unit, units, unit.outputs)).lines()


def inputs(graph: Graph) -> list[Node]:
    """The prior's own codes, then what it is given: codes of other latents in the spec's order, the class label."""
    return graph.entries()


def _code_map(node: Node) -> ast.expr:
    _, height, width = node.shapes[0]
    grid = () if node.args.get("source") == "field" else (height, width)
    return literals.call(
        "CodeMap", literals.constant(given_name(node)), literals.literal(node.args["classes"]), literals.literal(grid)
    )
