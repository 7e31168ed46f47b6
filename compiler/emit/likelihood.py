"""The likelihood of a spec as the construction of a runtime class."""

from __future__ import annotations

import ast

from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS
from hvdsl.compiler.emit import literals, runtime_index
from hvdsl.compiler.emit.names import camel
from hvdsl.compiler.graph import Literal, Term

ALWAYS = ("bits",)  # said even where it is the default, since a reader asks for it first


def likelihood(term: Term, channels: int) -> ast.expr:
    """`DiscretizedLogisticMixture(10, channels=3, bits=8)`: arguments that are the language's defaults are left out."""
    entry = LIKELIHOODS[term.name]
    name = entry.runtime or camel(term.name)
    given = dict(term.options)
    positional: list[ast.expr] = []
    options: dict[str, ast.expr] = {}
    for argument in entry.arguments:
        value = given.get(argument.name)
        if argument.name == "n":
            positional.append(literals.literal(value))
        elif argument.name in ALWAYS or value != argument.default:
            options[argument.name] = _argument(value)
    if "channels" in runtime_index.parameters(name):
        options = {"channels": literals.constant(channels), **options}
    return literals.call(name, *positional, **options)


def _argument(value: Literal) -> ast.expr:
    """A word that names a function of the runtime is a call of it; any other is a string."""
    if isinstance(value, Term) and value.name not in runtime_index.exports():
        return literals.constant(value.name)
    return literals.literal(value)
