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

    @property
    def is_of_codes(self) -> bool:
        """Whether it is priors alone, over codes from a file: its graph has no nodes."""
        return self.settings.data.is_codes

    @property
    def parameter_count(self) -> int:
        """Numbers that are trained: the model's, or those of all priors where it is these alone."""
        graphs = tuple(self.priors.values()) if self.is_of_codes else (self.graph,)
        return sum(graph.parameter_count() for graph in graphs)

    @property
    def groups(self) -> str:
        """How many latent groups it has, or priors where it is these alone, in words."""
        count, what = (len(self.priors), "prior") if self.is_of_codes else (len(self.graph.latents), "latent group")
        return f"{count} {what}{'' if count == 1 else 's'}"
