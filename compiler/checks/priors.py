"""Second-stage priors: each code depends on those before it alone, and can be drawn position by position."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


def check_priors(model: Model) -> Iterator[Diagnostic]:
    """What is not causal in a prior; of causal ones, what has no form for one position (HV0801)."""
    if not model.priors:  # as in most specs
        return
    from hvdsl.compiler.analysis.causality import check_causality
    from hvdsl.compiler.emit.stepwise.plan import plan

    for graph in model.priors.values():
        leak = check_causality(graph)
        if leak is not None:
            yield leak
            continue
        try:
            plan(graph)
        except SpecError as error:
            yield from error.diagnostics
