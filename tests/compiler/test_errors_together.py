"""One run tells of independent places; weak words are the field's, with the line to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl.compiler.assembly.files import locate
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.elaborate.small_models import text

CODES = """
group level(n = 4) {
  z ~ codebook(16, n) posterior nearest_code(skip -> conv(1x1, n))
  x + (z -> conv(1x1, channels))
}"""


def faults(**parts: str) -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        check(Source("m.hv", text(**parts)))
    return list(caught.value.diagnostics)


def places(diagnostics: list[Diagnostic]) -> list[tuple[str, str]]:
    return [(d.code.id, d.span.text if d.span is not None else "") for d in diagnostics]


def test_wrong_settings_unknown_names_and_wrong_shapes_are_told_in_one_run() -> None:
    found = faults(
        encoder="8: { y = nowhere; conv(3x3, 9) -> pixel_shuffle(2) -> tap(b); conv(3x3, 8) -> tap }",
        tail="train { batch = -1, optimizer = adam(lr = 1e-3), ema = 2 }\nsample { temperature = yes }\n",
    )
    assert places(found) == [
        ("HV0602", "yes"),
        ("HV0602", "-1"),
        ("HV0602", "2"),
        ("HV0301", "nowhere"),
        ("HV0501", "pixel_shuffle(2)"),
    ]


def test_a_wrong_likelihood_hides_no_wrong_name_and_follows_nothing() -> None:
    whole = text(encoder="8: conv(3x3, width) -> tap").replace("likelihood bernoulli", "likelihood bernouli")
    with pytest.raises(SpecError) as caught:
        check(Source("m.hv", whole))
    assert [d.code.id for d in caught.value.diagnostics] == ["HV0605", "HV0301"]


def test_wrong_data_are_told_alone_where_the_rest_is_right() -> None:
    assert [d.code.id for d in faults(data="1x8x8, flip = 3")] == ["HV0602"]


def test_a_name_that_is_bound_only_later_says_where() -> None:
    (fault,) = faults(encoder="8: {\n    y = h -> relu\n    h = conv(3x3, 8)\n    y -> tap\n  }")
    assert (fault.message, fault.help) == ("`h` is not bound yet", "move line 12 up, or this one down")


def test_a_prior_of_no_latent_offers_those_with_codes_and_its_last_line_is_told() -> None:
    (fault,) = faults(level=CODES, tail="prior z given top { conv(3x3, 8, mask = causal(exclude)) -> conv(1x1, 16) }\n")
    assert (fault.code.id, fault.help) == ("HV0314", "known here: `z`")
    prior = "prior z {\n  conv(3x3, 8, mask = causal(exclude))\n  relu -> conv(1x1, 15)\n}\n"
    (fault,) = faults(level=CODES, tail=prior)
    assert places([fault]) == [("HV0508", "relu -> conv(1x1, 15)")]
    assert fault.help == "end it with `conv(1x1, 16)`"


@pytest.mark.parametrize(
    ("call", "help"),
    [
        ("conv(4 x 4, 8)", "a size has no spaces: write `4x4`"),
        ("conv(3x3, 8 ? 4 : 5)", "choose by `a if test else b`"),
        ("conv(3x3, 8, mask = A)", "mask A"),
        ("conv(3x3, 8, mask = causal(excluded))", "did you mean `exclude`?"),
        ("conv(3x3, 8, init = normal(0.1))", "`gaussian(s)`"),
        ("conv(3x3, 8, init = kaiming)", "`fan_in`"),
        ("conv(3x3, 8, init = relu)", "known here: `fan_in`"),
    ],
)
def test_habits_get_the_word_to_write(call: str, help: str) -> None:
    assert help in faults(encoder=f"8: {call} -> tap")[0].help


def test_three_parts_may_be_called_q_k_and_v() -> None:
    encoder = "8: { conv(3x3, 8) -> tap; q, k, v = conv(1x1, 24) -> chunk(3); q + k + v -> tap(mix) }"
    assert check(Source("m.hv", text(encoder=encoder)))


def test_a_file_is_looked_for_below_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.hv").write_text(text())
    (tmp_path / "m.hv").write_text('hv 1\nmodel other\nextends "base.hv"\n')
    monkeypatch.chdir(tmp_path)
    for name, spec in (("base.hv", "base.hv"), ("m.hv", "m.hv")):
        with pytest.raises(SpecError) as caught:
            check(spec)
        assert caught.value.diagnostics[0].help == "did you mean `sub/base.hv`?", name
    assert locate("sub/base.hv")[0] == Path("sub/base.hv")
