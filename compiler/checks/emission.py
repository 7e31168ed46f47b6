"""What the emitter and the sampler could not write: shared instances that differ, priors without steps."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.checks.causality import not_causal
from hvdsl.compiler.graph import Scope
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


def check_stepwise(model: Model) -> Iterator[Diagnostic]:
    """What of causal priors has no form for one position (HV0801)."""
    for graph in model.priors.values():
        if not_causal(graph) is not None:  # which has been said
            continue
        from hvdsl.compiler.emit.stepwise.plan import plan  # most specs have no priors

        try:
            plan(graph)
        except SpecError as error:
            yield from error.diagnostics


def check_shared(model: Model) -> Iterator[Diagnostic]:
    """What computes something else at another use (HV0805): such an instance cannot be one object of one class."""
    for graph in (model.graph, *model.priors.values()):
        if not _has_shared(graph.root):
            continue
        from hvdsl.compiler.emit import check_classes  # most specs share nothing: they need no emitter

        try:
            check_classes(graph)
        except SpecError as error:
            yield from error.diagnostics


def _has_shared(scope: Scope) -> bool:
    return any(isinstance(m, Scope) and (m.kind == "shared" or _has_shared(m)) for m in scope.members)
