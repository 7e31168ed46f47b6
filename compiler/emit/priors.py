"""Second-stage priors as classes: from code maps to logits, and the position-by-position form for sampling."""

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
from hvdsl.compiler.emit.position_steps import position_steps
from hvdsl.compiler.emit.signature import Signature
from hvdsl.compiler.emit.stepwise.plan import plan
from hvdsl.compiler.emit.stepwise.schedule import skew
from hvdsl.compiler.emit.units import Units
from hvdsl.compiler.emit.variables import allowed
from hvdsl.compiler.graph import Graph, Node


def prior_parts(priors: Mapping[str, Graph], names: Names) -> list[list[str]]:
    """Write the classes of all priors, and the table `PRIORS` of them by their latents."""
    read = {latent: Units(graph) for latent, graph in priors.items()}
    called = {latent: names.take(camel(latent)) for latent in priors}
    made = classes(forms(*(units.root for units in read.values())), names)
    parts: list[list[str]] = []
    for latent, units in read.items():
        own = [c for c in made if c.example.graph is units.graph]  # recipes that no earlier prior has written
        parts += _prior(own, units, called[latent], names)
    table = [f'    "{identifier(latent)}": {name},' for latent, name in called.items()]
    return [*parts, ["PRIORS = {", *table, "}"]]


def _prior(made: Sequence[Class], units: Units, name: str, names: Names) -> list[list[str]]:
    graph = units.graph
    *recipes, whole, _ = made  # last the graph itself, which holds but the section
    steps = names.take(f"{name}Steps")
    derived = plan(graph)
    text = _prior_class(whole, name, graph, units, skew(derived, graph)) + _steps_method(graph, steps)
    return [*(class_text(c, units) for c in recipes), text, position_steps(graph, derived, name, steps)]


def _prior_class(made: Class, name: str, graph: Graph, units: Units, skew: int | None) -> list[str]:
    unit = made.example
    given = inputs(graph)
    names = [allowed(given_name(node)) for node in given]
    lines = [
        f"class {name}(nn.Module):",
        docstring(f"The prior of `{graph.name}`: logits of each code from those before it.", layout.INDENT),
        "",
    ]
    lines += layout.lines("CODES = ", _code_map(given[0]), depth=1)
    lines += layout.lines("GIVEN = ", ast.Tuple([_code_map(node) for node in given[1:]], ast.Load()), depth=1)
    lines += [f"    SKEW = {skew}", "", *constructor(made), ""]
    parameters = ", ".join(f"{n}: Tensor" for n in names)
    lines += [f"    def forward(self, {parameters}) -> Tensor:"]
    told = "Return logits `(N, K, H, W)`; `{}` are codes `(N, H, W)`.".format("`, `".join(names))
    lines.append(docstring(told, layout.INDENT * 2))
    live = {v.node for v in unit.inputs}
    for node, argument in zip(given, names, strict=True):
        if node.index in live:
            lines.append(f"        {argument} = one_hot({argument}, {int(str(node.args['classes']))})")
    return lines + Forward(made, units, Signature(unit, units, unit.outputs)).lines()


def _steps_method(graph: Graph, steps: str) -> list[str]:
    names = [allowed(given_name(node)) for node in inputs(graph)[1:]]
    takes = "".join(f", {n}: Tensor" for n in names)
    return [
        "",
        f"    def steps(self, canvas: Canvas{takes}) -> {steps}:",
        docstring("Return the form that draws a map position by position.", layout.INDENT * 2),
        f"        return {steps}({', '.join(['self', 'canvas', *names])})",
    ]


def inputs(graph: Graph) -> list[Node]:
    """The prior's own codes, then what it is given: codes of other latents in the spec's order, the class label."""
    return graph.entries()


def _code_map(node: Node) -> ast.expr:
    _, height, width = node.shapes[0]
    grid = () if node.args.get("source") == "field" else (height, width)
    return literals.call(
        "CodeMap", literals.constant(given_name(node)), literals.literal(node.args["classes"]), literals.literal(grid)
    )
