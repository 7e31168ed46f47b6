"""What the compiler knows of a spec when it has understood it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from hvdsl.compiler.graph import Graph, Term
from hvdsl.compiler.settings import ModelSettings
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic
from hvdsl.grammar.record import Record, record


@record
class Model(Record):
    """A checked spec: settings, likelihood and graphs, all complete."""

    settings: ModelSettings
    likelihood: Term
    graph: Graph = field(repr=False)
    priors: Mapping[str, Graph] = field(repr=False)  # second-stage priors by their latent, in the spec's order
    resolved: tree.Spec = field(repr=False)  # the merged spec; printed, it is `resolved.hv`
    warnings: tuple[Diagnostic, ...] = ()
