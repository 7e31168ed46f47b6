"""Second-stage priors: each can be drawn position by position."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.checks.causality import not_causal
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
