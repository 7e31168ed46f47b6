"""The limit on operations: told at what repeats, raised by the environment variable that it names."""

from __future__ import annotations

import pytest

from hvdsl.compiler.diagnostics.examples import spec
from hvdsl.compiler.pipeline import check
from hvdsl.errors import UsageError
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source

TEXT = spec(top="cell two { relu -> tanh }", encoder="8: conv(3x3, 8) -> two * 30 -> tap")


def test_the_outermost_repeat_is_named_with_the_way_to_raise_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVDSL_MOST_OPERATIONS", "50")
    with pytest.raises(SpecError) as error:
        check(Source("m.hv", TEXT))
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code.id == "HV0711"
    assert diagnostic.span is not None
    assert TEXT[diagnostic.span.start : diagnostic.span.end] == "two * 30"
    assert diagnostic.found.startswith("more than 50, 48 of them")
    assert "HVDSL_MOST_OPERATIONS" in diagnostic.help
    monkeypatch.setenv("HVDSL_MOST_OPERATIONS", "100")
    assert len(check(Source("m.hv", TEXT)).graph.nodes) > 60


@pytest.mark.parametrize("text", ["0", "many", "-3", "1e5", "9999999999"])
def test_a_limit_is_a_whole_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVDSL_MOST_OPERATIONS", text)
    with pytest.raises(UsageError, match="HVDSL_MOST_OPERATIONS is a whole number"):
        check(Source("m.hv", TEXT))
