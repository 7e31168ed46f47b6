"""The limit on operations: told at what repeats, raised by the environment variable that it names."""

from __future__ import annotations

import pytest

from hvdsl.compiler.diagnostics import spec
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


KERNEL = "posterior normal(skip -> conv(1x1, 8)) -> iaf(shift) {{ {} -> conv(1x1, 4, mask = causal(upto)) }}"
LEVEL = "\ngroup level {\n  z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))\n  z -> conv(1x1, logits)\n}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (spec(top="let a0 = [1, 1]\n" + "".join(f"let a{i + 1} = [a{i}, a{i}]\n" for i in range(40)) + LEVEL,
              encoder="8: conv(3x3, 8 if a40 == a39 else 4) -> tap"), "HV0716"),
        (spec(encoder="8: { a = conv(1x1, 99_999_999) -> chunk(99_999_999); conv(3x3, 8) -> tap }"), "HV0501"),
        (spec(encoder="8: conv(5001x5001, 8) -> tap"), "HV0501"),
        (spec(top=LEVEL.replace("normal(standard(4))", "codebook(99_999_999_999, 4)")
              .replace("posterior normal(skip -> conv(1x1, 8))", "posterior nearest_code(skip -> conv(1x1, 4))")),
         "HV0501"),
        (spec(top=LEVEL.replace("posterior normal(skip -> conv(1x1, 8))",
                                KERNEL.format("conv(3x3, 200_000, mask = causal(before))"))), "HV0714"),
        (spec().replace("bits = 4,", "bits = 4, pad = 999_999_999,"), "HV0602"),
        (spec().replace("bits = 4,", "bits = 4, pad = (4, 4, 0, 0),"), "HV0604"),
        (spec().replace("bits = 4,", "bits = 4, shift = 9,"), "HV0604"),
    ],
    ids=["lists", "chunk", "kernel", "codes", "flow", "pad", "pads", "shift"],
)  # fmt: skip
def test_what_would_take_for_ever_is_refused(text: str, code: str) -> None:
    with pytest.raises(SpecError) as error:
        check(Source("m.hv", text))
    assert code in [d.code.id for d in error.value.diagnostics]


def test_many_warnings_are_collected_in_time_that_grows_with_their_number() -> None:
    names = ", ".join(f"a{i}" for i in range(1500))
    text = spec(encoder=f"8: {{ {names} = conv(1x1, 1500) -> chunk(1500); conv(3x3, 8) -> tap }}")
    assert len(check(Source("m.hv", text)).warnings) == 1500
