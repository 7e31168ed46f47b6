"""The compiler's front door: from a spec to a checked model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.elaboration.elaborate import elaborate
from hvdsl.compiler.graph import Scope
from hvdsl.compiler.model import Model
from hvdsl.grammar import tree
from hvdsl.grammar.source import Source


def check(
    spec: str | Path | Source | tree.Spec,
    overrides: Sequence[str] = (),
    variant: str | None = None,
    base: Path | None = None,
) -> Model:
    """Return the model that a spec describes, everything about it known and checked; no tensor is made.

    `spec` is a file (`model.hv`, `model.hv@NAME`, the name of a shipped spec), a text, or a tree; `overrides`
    are `name=value` and `section.key=value`; `base` is the folder where `use` looks first for a text or tree.
    `Model.warnings` holds what is questionable. Raises `SpecError` with everything that is wrong.
    """
    model = elaborate(assemble(spec, overrides, variant, base))
    for graph in (model.graph, *model.priors.values()):
        if _has_shared(graph.root):
            from hvdsl.compiler.emit.classes import check_shared  # most specs share nothing: they need no emitter

            check_shared(graph)
    return model


def _has_shared(scope: Scope) -> bool:
    return any(isinstance(m, Scope) and (m.kind == "shared" or _has_shared(m)) for m in scope.members)
