"""The trip of a spec: what `check` does is what `CHECKS` holds, and a pass changes nothing that it is given."""

from __future__ import annotations

import pytest

from hvdsl.compiler import pipeline
from hvdsl.compiler.diagnostics.names import LEAK
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


def test_check_runs_exactly_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def first(model: Model) -> list[Diagnostic]:
        seen.append(f"first {model.settings.model}")
        return []

    def second(model: Model) -> list[Diagnostic]:
        seen.append("second")
        return [Diagnostic(LEAK, "nothing may pass", None)]

    monkeypatch.setattr(pipeline, "CHECKS", (first, second, first))
    with pytest.raises(SpecError, match="nothing may pass"):
        pipeline.check("vdvae_digits")
    assert seen == ["first vdvae_digits", "second", "first vdvae_digits"]


def content(model: Model) -> list[tuple[object, ...]]:
    return [(n.operation.name, dict(n.args), n.inputs, n.shapes, n.path) for n in model.graph.nodes]


def test_checks_and_passes_leave_a_model_as_it_is() -> None:
    model = pipeline.check("vdvae_digits")
    before = content(model)
    text = pipeline.write(model, 0)
    for rule in pipeline.CHECKS:
        assert all(d.code.id.startswith("HV09") for d in rule(model))
    assert pipeline.optimise(model, 1).graph is not model.graph
    assert content(model) == before
    assert pipeline.write(model, 0) == text != pipeline.write(model, 1)
    assert pipeline.write(model, 1, ()) == text
