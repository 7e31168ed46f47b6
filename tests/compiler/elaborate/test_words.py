"""Words: a bare name is one only as the whole value of an argument that declares it, and takes what is declared."""

from __future__ import annotations

import pytest

from tests.compiler.elaborate.small_models import faults


def codes(top: str = "", encoder: str = "8: conv(3x3, 8) -> tap") -> list[tuple[str, str]]:
    """What is said, but for definitions of `top` that a case does not use."""
    found = [d for d in faults(top=top, encoder=encoder) if d.code.id != "HV0903"]
    return [(d.code.id, d.span.text if d.span is not None else "") for d in found]


@pytest.mark.parametrize(
    "call",
    [
        "conv(3x3, 8, init = scaled(0.5))",
        "conv(3x3, 8, init = zeros if index_of == 0 else gaussian(s = 0.02))",
        "conv(3x3, 8, init = first)",
        "conv(3x3, 8, init = [8: orthogonal, else: zeros][res])",
        "conv(3x3, 8, norm = weight(gain = log, start = from_batch(0.1)))",
        "conv(3x3, 8, init = scaled(1 / sqrt(2 * exp(sin(0)) + cos(pi))))",
        "block(8)",
        "block(8, scaled(0.1))",
        "block(8, how = first)",
        "block(sqrt(64))",
        "inner",
        "{ v = conv(1x1, 8)\n v -> relu }",
    ],
)
def test_words_are_values_where_they_are_declared(call: str) -> None:
    top = (
        "let first = scaled(2)\nlet index_of = 0\ncell block(n, how = fan_in) { conv(3x3, n, init = how) }\n"
        "cell inner { let how = zeros\n conv(3x3, 8, init = how) }"
    )
    assert codes(top, f"8: {call} -> conv(3x3, 8) -> tap" if "{" not in call else f"8: {{ {call} -> tap }}") == []


@pytest.mark.parametrize(
    ("call", "code", "place"),
    [
        ("conv(3x3, 8 if zeros == 1 else 16)", "HV0301", "zeros"),
        ("conv(3x3, zeros)", "HV0301", "zeros"),
        ("conv(3x3, 8, init = zeross)", "HV0301", "zeross"),
        ("conv(3x3, 8, init = scald(2))", "HV0301", "scald"),
        ("conv(3x3, 8, init = scaled)", "HV0407", "scaled"),
        ("conv(3x3, 8, init = scaled(1, 2))", "HV0407", "2"),
        ("conv(3x3, 8, init = scaled(f = yes))", "HV0401", "f = yes"),
        ("conv(3x3, 8, init = scaled(g = 2))", "HV0407", "g = 2"),
        ("conv(3x3, 8, init = 3)", "HV0401", "3"),
        ("conv(3x3, 8, norm = weight(cubic))", "HV0301", "cubic"),
        ("conv(3x3, 8, norm = weight(start = from_batch(-1)))", "HV0401", "-1"),
        ("conv(3x3, 8, mask = causal(befor))", "HV0301", "befor"),
        ("block(8, scaled)", "HV0407", "how"),
        ("block(8, scaledd(2))", "HV0301", "scaledd"),
        ("block(8, 2)", "HV0401", "how"),
        ("conv(3x3, 15 / 2)", "HV0402", "15 / 2"),
    ],
)
def test_a_word_anywhere_else_or_with_other_arguments_is_told_at_its_place(call: str, code: str, place: str) -> None:
    assert codes("cell block(n, how = fan_in) { conv(3x3, n, init = how) }", f"8: {call} -> tap") == [(code, place)]


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("ReLU", "did you mean `relu`?"),
        ("upsample", "`nearest(2)`"),
        ("interpolate", "`bilinear(2)`"),
        ("linear", "`dense(n)`"),
        ("softmax", "`categorical(logits)`"),
        ("BatchNorm2d", "`batch_norm`"),
    ],
)
def test_habits_of_other_libraries_get_their_hint(name: str, help: str) -> None:
    (diagnostic,) = faults(encoder=f"8: conv(3x3, 8) -> {name} -> tap")
    assert diagnostic.code.id == "HV0301" and help in diagnostic.help


def test_mean_and_scale_of_a_distribution_are_one_tensor() -> None:
    top = "group both { m = conv(1x1, 4)\n s = conv(1x1, 4)\n z ~ normal(m, s) posterior normal(skip -> conv(1x1, 8)) }"
    diagnostic = next(d for d in faults(top=top, decoder="8: learned(zeros, 8) -> both -> level"))
    assert diagnostic.code.id == "HV0401" and "normal(concat(m, s))" in diagnostic.help


def test_a_local_name_hides_a_recipe_also_where_recipes_would_use_themselves() -> None:
    top = "cell first { second = conv(1x1, 8)\n second -> relu }\ncell second { first }"
    assert codes(top, "8: conv(3x3, 8) -> second -> tap") == []


@pytest.mark.parametrize(
    ("prior", "help"), [("conv(1x1, 8)", "write `normal(conv(1x1, 8))`"), ("x", "write `normal(x)`"), ("3", "normal(")]
)
def test_what_is_no_distribution_is_told_how_to_become_one(prior: str, help: str) -> None:
    top = f"group draw {{ z ~ {prior} posterior normal(skip -> conv(1x1, 8)) }}"
    diagnostic = next(d for d in faults(top=top, decoder="8: learned(zeros, 8) -> draw -> level"))
    assert diagnostic.code.id == "HV0401" and help in diagnostic.help and "`laplace`" in diagnostic.expected
