"""Mistakes are reported where they are, several in one run, each once."""

from __future__ import annotations

import pytest

from hvdsl.grammar.diagnostics import Diagnostic
from tests.compiler.elaborate.small_models import DECODER, codes, faults


def only(found: tuple[Diagnostic, ...]) -> Diagnostic:
    assert len(found) == 1, codes(found)
    return found[0]


def place(diagnostic: Diagnostic) -> str:
    assert diagnostic.span is not None
    return diagnostic.span.text


def test_an_unknown_name_offers_the_nearest() -> None:
    found = only(faults(top="let width = 8", encoder="8: conv(3x3, widht) -> tap"))
    assert (found.code.id, place(found)) == ("HV0301", "widht")
    assert found.help == "did you mean `width`?"


def test_several_mistakes_are_reported_in_one_run() -> None:
    found = faults(
        encoder="8: { a = conv(3x3, one)\n b = conv(3x3, two)\n conv(3x3, 8) -> tap }",
        decoder="8: learned(zeros, 8) -> level -> conv(three, logits)",
    )
    assert [place(d) for d in found] == ["one", "two", "three"]


def test_what_depends_on_a_mistake_is_silent() -> None:
    found = only(faults(encoder="8: { a = conv(3x3, nothing)\n b = a + a -> conv(1x1, 8)\n b -> tap -> avg_pool(2) }"))
    assert place(found) == "nothing"


def test_a_failure_in_repeated_text_is_reported_once_with_its_count() -> None:
    found = only(faults(top="cell f { h = conv(1x1, nothing)\n relu }", encoder="8: conv(3x3, 8) -> f * 5 -> tap"))
    assert found.count == 5


def test_shapes_that_differ_are_named_with_their_origin() -> None:
    found = only(faults(encoder="8: { a = conv(3x3, 8)\n b = conv(3x3, 4)\n a + b -> tap }"))
    assert (found.code.id, place(found), found.found) == ("HV0501", "a + b", "8x8x8 and 4x8x8")
    assert "small.hv:10" in found.help
    assert "small.hv:11" in found.help


def test_nothing_to_read_says_what_there_is() -> None:
    found = only(faults(encoder="8: conv(3x3, 8) -> avg_pool(2)\n  4: conv(3x3, 8) -> tap\n  "))
    assert (found.code.id, place(found)) == ("HV0307", "skip")
    assert found.found == "reads `skip` at 8; the encoder taps 4"
    assert "`level`" in found.help


def test_taps_and_readers_must_match() -> None:
    found = only(faults(encoder="8: conv(3x3, 8) -> (relu -> tap) * 3", decoder=DECODER.replace("level", "level * 2")))
    assert found.code.id == "HV0308"
    assert found.message == "3 taps at 8 for 2 readers"


def test_a_leak_names_its_path() -> None:
    found = only(faults(decoder="8: learned(zeros, 8) -> level -> { x + skip } -> conv(1x1, logits)"))
    assert found.code.id == "HV0310"
    assert found.found.startswith("`tap` (line 10) -> `add` (line 13)")


def test_a_prior_that_reads_the_encoder_is_a_leak() -> None:
    found = only(
        faults(
            level="group level { s = skip -> conv(1x1, 8)\n z ~ normal(s) posterior normal(s)\n"
            " x + (z -> conv(1x1, 8)) }"
        )
    )
    assert found.code.id == "HV0310"
    assert "prior" in found.message


@pytest.mark.parametrize(
    ("encoder", "code", "where"),
    [
        ("8: conv(3x3) -> tap", "HV0407", "conv(3x3)"),
        ("8: conv(3x3, 8, colour = 3) -> tap", "HV0407", "colour = 3"),
        ("8: conv(3x3, 8, out = 3) -> tap", "HV0407", "out = 3"),
        ("8: relu(1, 2) -> tap", "HV0407", "1"),
        ("8: conv(3x3, 15 / 2) -> tap", "HV0402", "15 / 2"),
        ("8: conv(3x3, 1 / 0) -> tap", "HV0403", "1 / 0"),
        ("8: conv(3x3, yes) -> tap", "HV0401", "yes"),
        ("8: conv(3x3, 8, init = wide) -> tap", "HV0301", "wide"),
        ("8: conv(3x3, 8) -> relu + elu -> tap", "HV0401", "relu + elu"),
        ("8: conv(3x3, 8) -> relu * 1.5 -> tap", "HV0402", "1.5"),
        ("8: conv(3x3, 8) -> relu * (1 - 2) -> tap", "HV0408", "1 - 2"),
        ("8: conv(3x3, 8) -> relu * 20_000 -> tap", "HV0712", "20_000"),
        ("8: conv(3x3, 8) -> 3 -> tap", "HV0401", "3"),
        ("8: conv(3x3, 8) -> learned(zeros, 8) -> tap", "HV0401", "learned(zeros, 8)"),
        ("8: conv(3x3, 8) -> split(4, 4) -> relu -> tap", "HV0401", "relu"),
        ("8: { a, b = conv(3x3, 8)\n a -> tap }", "HV0502", "a, b = conv(3x3, 8)"),
        ("8: { relu = conv(3x3, 8)\n x -> tap }", "HV0302", "relu"),
        ("8: conv(3x3, 8) -> residual { conv(1x1, 4) } -> tap", "HV0501", "residual { conv(1x1, 4) }"),
        ("8: conv(3x3, 8) -> residual -> tap", "HV0407", "residual"),
        ("8: conv(3x3, 8) -> tap -> avg_pool(2)\n  2: relu", "HV0505", "2"),
        ("8: conv(3x3, 8) -> tap\n  8: relu", "HV0206", "8"),
        ("default conv { bias = no }\n  default conv { pad = 1 }\n  8: conv(3x3, 8) -> tap", "HV0206", "conv"),
        ("let a = 8\n  let a = 4\n  8: conv(3x3, a) -> tap", "HV0206", "a"),
    ],
)
def test_each_mistake_has_its_code_and_place(encoder: str, code: str, where: str) -> None:
    found = only(tuple(d for d in faults(encoder=encoder) if d.code.id != "HV0309"))
    assert (found.code.id, place(found)) == (code, where)


@pytest.mark.parametrize(
    ("top", "encoder"),
    [
        ("cell f { g }\ncell g { f }", "8: conv(3x3, 8) -> f -> tap"),
        ("cell f { { { f } } }", "8: conv(3x3, 8) -> f -> tap"),
        ("cell f(g = f) { g }", "8: conv(3x3, 8) -> f -> tap"),
    ],
)
def test_recipes_that_use_themselves_name_the_circle(top: str, encoder: str) -> None:
    found = only(faults(top=top, encoder=encoder))
    assert found.code.id == "HV0303"
    assert found.found.startswith("`f` -> ")


def test_recursion_through_parameters_ends() -> None:
    found = faults(top="cell f(g) { x -> g(g) }", encoder="8: conv(3x3, 8) -> f(f) -> tap")
    assert codes(found) == ["HV0713"]


def test_lets_in_a_circle() -> None:
    found = faults(top="let a = b + 1\nlet b = a", encoder="8: conv(3x3, a) -> tap")
    assert "HV0405" in codes(found)


@pytest.mark.parametrize("depth", [30, 200, 2_000])
def test_deep_nesting_never_exhausts_the_stack(depth: int) -> None:
    cells = "cell a0 { relu }\n" + "\n".join(
        f"cell a{i + 1} {{ residual {{ h = x -> {{ a{i} }}\n h }} }}" for i in range(depth)
    )
    found = faults(top=cells, encoder=f"8: conv(3x3, 8) -> a{depth} -> tap")
    assert set(codes(found)) <= {"HV0713"}
    assert (depth == 30) or found


def test_evaluation_is_bounded() -> None:
    lets = "let a0 = 1\n" + "\n".join(f"let a{i + 1} = a{i} + a{i}" for i in range(60))
    found = faults(top=lets, encoder="8: conv(3x3, a3) -> tap")
    assert codes(found) == ["HV0903"]  # of the last `let`
    assert codes(faults(top="let a = 10 ** 10 ** 10", encoder="8: conv(3x3, a) -> tap")) == ["HV0403"]


def test_a_bias_before_batch_norm_is_a_warning() -> None:
    found = only(faults(encoder="8: conv(3x3, 8) -> batch_norm -> tap"))
    assert (found.code.id, found.severity.value, place(found)) == ("HV0901", "warning", "conv(3x3, 8)")


def test_a_bias_before_batch_norm_that_the_text_asks_for_is_none() -> None:
    assert faults(encoder="8: conv(3x3, 8, bias = yes) -> batch_norm -> tap") == ()
    assert faults(top="default conv { bias = yes }", encoder="8: conv(3x3, 8) -> batch_norm -> tap") == ()


def test_an_odd_size_before_a_down_cell_is_told_of_at_the_row() -> None:
    top = """cell down {
  concat(x -> conv(1x1, 4, stride = 2), x -> crop(left = 1, top = 1) -> conv(1x1, 4, stride = 2))
}"""
    encoder, decoder = "7: conv(3x3, 8) -> down -> tap", "4: learned(zeros, 8) -> level"
    found = [f for f in faults(top=top, encoder=encoder, decoder=decoder, data="1x7x7") if f.code.id == "HV0510"]
    assert [place(f) for f in found] == ["down"]
    assert found[0].message == "a map of 7x7 cannot be halved in this way"
    assert found[0].found.endswith("gets 4x4x4, 4x3x3")
    other = "7: conv(3x3, 8) -> { concat(x, x -> crop(left = 1, top = 1)) } -> tap"
    assert "HV0510" not in codes(faults(encoder=other, data="1x7x7"))
