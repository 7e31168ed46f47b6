"""Shared instances: one computation, wherever they are used."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.graph import Scope
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


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
