"""The trip of a spec: what `check` does is what `CHECKS` holds, and a pass changes nothing that it is given."""

from __future__ import annotations

import pytest

from hvdsl.compiler import pipeline
from hvdsl.compiler.diagnostics.names import LEAK
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.elaborate.small_models import text


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


def of_variants(tail: str, variant: str | None = None) -> list[tuple[str, str, str]]:
    """Code, message and place of what is wrong in the variants of a small spec."""
    spec = Source("small.hv", text(tail=tail))
    found = pipeline.check_variants(pipeline.check(spec, variant=variant), spec)
    return [(d.code.id, d.message, d.span.text if d.span is not None else "") for d in found]


def test_each_variant_is_checked_alone_and_told_where_it_is_wrong() -> None:
    fine = "variant thin { encoder { 8: conv(3x3, 4) -> tap } }"
    wrong = """variant wrong { decoder { 8: learned(zeros, 8) -> level -> conv(1x1, 5) } }
variant late { train { batch = 4 } }"""
    told = of_variants(f"{fine}\n{wrong}")
    assert [(code, place) for code, _, place in told] == [
        ("HV0507", "learned(zeros, 8) -> level -> conv(1x1, 5)"),
        ("HV0603", "train { batch = 4 }"),
    ]
    assert told[0][1].endswith(", in variant `wrong`") and told[1][1].endswith(", in variant `late`")
    assert of_variants(fine) == [] == of_variants(f"{fine}\n{wrong}", variant="thin")  # the one that was chosen


def test_a_variant_that_is_right_over_another_is_only_warned_of() -> None:
    wide = "variant wide { let more = 4 }"
    over = "variant deep { encoder { 8: conv(3x3, more) -> tap } }"
    told = of_variants(f"{wide}\n{over}")
    assert [(code, place) for code, _, place in told] == [("HV0914", "more")]
    assert "right over `wide`" in told[0][1] and "in variant" not in told[0][1]
    assert of_variants(f"{wide}\n{over}  # hv: allow HV0914") == []
    assert [code for code, _, _ in of_variants(over)] == ["HV0301"]  # there is nothing that it could be laid over


def test_of_many_variants_none_is_tried_and_that_is_told() -> None:
    bad = "decoder { 8: learned(zeros, 8) -> level -> conv(1x1, 5) }"
    many = [f"variant v{i} {{ {bad} }}" for i in range(pipeline.MOST_VARIANTS + 1)]
    assert of_variants("\n".join(many)) == [("HV0913", "17 variants were not checked", "")]
    assert len(of_variants("\n".join(many[:-1]))) == pipeline.MOST_VARIANTS
