"""Parts that nothing reads are told, with codes and places; what only some place, variant or prior reads is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl import specs
from hvdsl.cli.main import main
from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.elaboration.elaborate import new_elaborator
from hvdsl.compiler.elaboration.environment import TopLevel
from hvdsl.compiler.elaboration.references import contradictions
from hvdsl.compiler.pipeline import check
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source

SPEC = """hv 1
model small
data digits {{ shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }}
{top}
group layer {{
  z ~ normal(conv(1x1, 8)) posterior normal({posterior} -> conv(1x1, 8))
  {body}
}}
encoder {{
  {encoder}
}}
decoder {{
  8: learned(zeros, 8) -> {decoder} -> conv(1x1, logits)
}}
likelihood discretized_logistic_mixture(2)
objective {{ unit = nats_per_dim }}
{tail}
"""


def spec(
    top: str = "",
    posterior: str = "concat(x, skip)",
    body: str = "x + (z -> conv(1x1, 8))",
    encoder: str = "8: conv(3x3, 8) -> tap",
    decoder: str = "layer",
    tail: str = "",
) -> str:
    return SPEC.format(top=top, posterior=posterior, body=body, encoder=encoder, decoder=decoder, tail=tail)


def diagnosed(text: str, variant: str | None = None) -> list[tuple[str, str]]:
    """Codes and what they point at."""
    try:
        diagnostics = check(Source("small.hv", text), variant=variant).warnings
    except SpecError as error:
        diagnostics = error.diagnostics
    return [(d.code.id, d.span.text if d.span is not None else "") for d in diagnostics]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"top": "let width = 8"}, ("HV0903", "width")),
        ({"top": "cell block { relu }"}, ("HV0903", "block")),
        ({"top": "shared part = relu"}, ("HV0903", "part")),
        ({"top": "cell a { relu }\ncell b { a }"}, ("HV0903", "b")),
        ({"top": "cell a(k) { relu }", "encoder": "8: conv(3x3, 8) -> a(3) -> tap"}, ("HV0904", "k")),
        ({"top": "cell a { conv(1x1, widht) }"}, ("HV0301", "widht")),
        ({"body": "h = conv(1x1, 8)\n  x + (z -> conv(1x1, 8))"}, ("HV0904", "h")),
        ({"body": "let n = 8\n  x + (z -> conv(1x1, 8))"}, ("HV0904", "n")),
        ({"body": "a, b = chunk(2)\n  concat(a, z) -> conv(1x1, 8)"}, ("HV0904", "b")),
        ({"body": "f = x -> gelu\n  x + (z -> conv(1x1, 8))"}, ("HV0904", "f")),
        ({"encoder": "8: conv(3x3, 8) -> tap -> avg_pool(2)\n  4: conv(3x3, 8)"}, ("HV0905", "conv(3x3, 8)")),
        ({"encoder": "8: conv(3x3, 8) -> tap -> relu -> tap(more)"}, ("HV0309", "tap(more)")),
        ({"decoder": "{ _ = layer\n  layer }"}, ("HV0906", "z")),
        ({"posterior": "concat(x, skip + 0 * skip)"}, ("HV0905", "0 * skip")),
        ({"body": "let g = 0.0\n  x + (z -> conv(1x1, 8)) * g"}, ("HV0905", "(z -> conv(1x1, 8)) * g")),
        ({"body": "x + (z * constant(0, 4) -> conv(1x1, 8))"}, ("HV0905", "z * constant(0, 4)")),
        ({"posterior": "x", "decoder": "layer"}, ("HV0317", "normal(x -> conv(1x1, 8))")),
        ({"body": "learned(zeros, 8)"}, ("HV0318", "layer -> conv(1x1, logits)")),
    ],
)
def test_what_nothing_reads_is_told(parts: dict[str, str], expected: tuple[str, str]) -> None:
    warnings = diagnosed(spec(**parts))
    assert expected[0] in [code for code, _ in warnings]
    if expected[0] not in ("HV0906", "HV0318"):
        assert expected in warnings


@pytest.mark.parametrize(
    ("parts", "variant"),
    [
        ({}, None),
        ({"body": "_, b = chunk(2)\n  concat(b, z) -> conv(1x1, 8)"}, None),
        ({"top": "let width = 8", "tail": "variant wide { encoder { 8: conv(3x3, width) -> tap } }"}, None),
        ({"encoder": "8: conv(3x3, 8) -> tap", "top": "let w = 8", "tail": "variant v { let w = 9 }\n"
          "variant u { encoder { 8: conv(3x3, w) -> tap } }"}, "v"),
        ({"body": "x + (z -> conv(1x1, 8)) * (1 - index)", "decoder": "layer * 2"}, None),
        ({"top": "cell rise { tap(s) = conv(1x1, 8)\n x + (x -> conv(1x1, 8)) }", "posterior": "skip(s)",
          "encoder": "8: conv(3x3, 8) -> rise * 2", "decoder": "layer * 2"}, None),
    ],
)  # fmt: skip
def test_what_something_reads_is_not(parts: dict[str, str], variant: str | None) -> None:
    assert diagnosed(spec(**parts), variant) == []


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("conv(1x1, 6) -> split(4, 4)", ("HV0501", "split(4, 4)")),
        ("a = conv(1x1, 4)\n b = conv(1x1, 8)\n a + b", ("HV0501", "a + b")),
        ("conv(0x0, 4)", ("HV0501", "conv(0x0, 4)")),
        ("conv(3x3, 4, wide = 3)", ("HV0407", "wide = 3")),
        ("conv(3x3, yes)", ("HV0401", "yes")),
        ("conv(3x3, 4.5)", ("HV0402", "4.5")),
        ("relu * -1", ("HV0408", "-1")),
    ],
)
def test_what_no_input_could_mend_in_an_unused_recipe_is_an_error(recipe: str, expected: tuple[str, str]) -> None:
    assert expected in diagnosed(spec(top=f"cell unused {{ {recipe} }}"))
    assert expected in diagnosed(spec(top=f"cell inner {{ {recipe} }}\ncell unused {{ inner -> relu }}"))


@pytest.mark.parametrize(
    "recipe",
    [
        "{ x + conv(1x1, 24) }",
        "{ split(24, 8) }",
        "{ x + learned(zeros, 8, 24x24) }",
        "{ chunk(37) }",
        "{ u, v = x\n u + (v -> nearest(2)) }",
        "{ conv(out = 8) }",  # the decoder's default
        "(n, step = gelu) { step -> step(n) -> conv(1x1, n * 2 if n > 3 else 5) -> split(4, n) }",
        "(width = none) { conv(1x1, width) }",
        "{ x + (skip(low) -> conv(1x1, 8)) }",
    ],
)
def test_what_only_some_input_or_place_decides_is_not_told_of_an_unused_recipe(recipe: str) -> None:
    text = spec(top=f"cell unused {recipe}").replace("decoder {", "decoder {\n  default conv { kernel = 1x1 }")
    assert [code for code, _ in diagnosed(text)] == ["HV0903"]


def test_no_recipe_of_a_shipped_spec_is_refused_on_its_own() -> None:
    recipes = 0
    for path in sorted(Path(specs.__file__).parent.glob("*.hv")):
        closed = assemble(path)
        program = TopLevel.of(closed.spec, closed.logits, closed.settings.data.conditions)
        for item in closed.spec.items:
            if isinstance(item, tree.RecipeNode):
                assert contradictions(item, program, closed.spec, new_elaborator) == (), (path.name, item.name.id)
                recipes += 1
    assert recipes > 100


ZEROS = "nothing is left of the map"
DEAF = "reads nothing but zeros"


@pytest.mark.parametrize(
    ("body", "message", "at"),
    [
        ("shift(down = 4) -> gelu -> shift(down = 4) -> conv(1x1, 8)", ZEROS, "shift(down = 4)"),
        ("shift(down = 8)", ZEROS, "shift(down = 8)"),
        ("(shift(down = 4)) * 2 -> conv(1x1, 8)", ZEROS, "shift(down = 4)"),
        ("shift(right = 5) -> avg_pool(3x3, stride = 1) -> shift(down = -8)", ZEROS, "shift(down = -8)"),
        ("x * (shift(right = 4) -> conv(1x1, 8, bias = no) -> shift(right = 4))", ZEROS, "shift(right = 4)"),
        ("conv(1x1, 8, mask = causal(exclude))", DEAF, "conv(1x1, 8, mask = causal(exclude))"),
        ("global_pool -> conv(3, 8, mask = causal(exclude)) -> nearest(8)", DEAF, "conv(3, 8, mask = causal(exclude))"),
        ("a = conv(1x1, 8); a - x; a - x", "nothing of `a` is left", "a - x"),
        ("a = conv(1x1, 8); ({ a - x }) * 2", "nothing of `a` is left", "a - x"),
        ("a = conv(1x1, 8); a / 3 + a / 3 - 2 * a / 3 + x", "nothing of `a` is left", "a / 3 + a / 3 - 2 * a / 3"),
        ("a = global_pool -> conv(1x1, 8); x + a - mean(a, a)", "nothing of `a` is left", "x + a - mean(a, a)"),
        ("a = conv(1x1, 8); x + (a -> identity) - a", "nothing of `a` is left", "x + (a -> identity) - a"),
    ],
)  # fmt: skip
def test_what_only_arithmetic_empties_is_told(body: str, message: str, at: str) -> None:
    warnings = check(Source("small.hv", spec(encoder=f"8: conv(3x3, 8) -> {{ {body} }} -> tap"))).warnings
    places = [d.span.text for d in warnings if d.code.id == "HV0905" and message in d.message and d.span is not None]
    assert places == [at]


@pytest.mark.parametrize(
    "body",
    [
        "shift(down = 4) -> gelu -> shift(down = 3)",
        "shift(down = 4) -> softplus -> shift(down = 4)",
        "shift(down = 4) -> conv(1x1, 8) -> shift(down = 4)",  # the bias is there
        "shift(down = 4) -> conv(3x3, 8, bias = no) -> shift(down = 4)",  # which looks down
        "shift(down = 4) -> shift(down = -4)",
        "pad(top = 1) -> crop(top = 1)",
        "conv(3x3, 8, mask = causal(exclude))",
        "a = conv(1x1, 8); a - x; a + x",
        "a = conv(1x1, 8); ({ a - x }) * 3",
        "a = conv(1x1, 8); a / 3 + a / 3 - a / 3 + x",
        "a = conv(1x1, 8); x + (a -> dropout(0.1)) - a",
        "a = conv(1x1, 8); x + (a -> gelu) - a",
        "a, b = conv(1x1, 16) -> chunk(2); a - b",
        "parallel(3) { conv(1x1, 8) } -> { 1 - x }",
        "parallel(3, join = mean) { conv(1x1, 8) } -> { 1 - x }",
        "parallel(3, join = delta) { conv(1x1, 8) } -> { 1 - x }",
        "a = conv(1x1, 8); a * x - x * a",  # products are compared by what they are, not by what they give
    ],
)
def test_what_something_is_left_of_is_not_told(body: str) -> None:
    assert diagnosed(spec(encoder=f"8: conv(3x3, 8) -> {{ {body} }} -> tap")) == []


CODES = """hv 1
model codes
data codes {{ levels = [z: codes(4, {grid})] }}
prior z {{ {body} }}
train z {{ steps = 2, batch = 2, optimizer = adam(lr = 1e-3) }}
"""


@pytest.mark.parametrize(
    ("grid", "body", "expected"),
    [
        ("2x3", "h = conv(3, 8, mask = causal(exclude)); a = h -> conv(1x1, 4); a = h -> elu -> conv(1x1, 4); a",
         [("HV0905", "a = h -> conv(1x1, 4)")]),
        ("2x3", "h = conv(3, 8, mask = causal(exclude)); x = h -> conv(1x1, 6);"
         "h + (coordinates(x) -> conv(1x1, 8)) -> conv(1x1, 4)",
         [("HV0905", "conv(1x1, 6)")]),  # of which the size alone is read
        ("1x1", "conv(3, 4, mask = causal(exclude))", [("HV0905", "conv(3, 4, mask = causal(exclude))")]),
        ("1x4", "a = conv(1x1, 4) -> shift(down = 1); b = conv(1x1, 4) -> shift(right = 1); a + b",
         [("HV0905", "shift(down = 1)")]),
        ("2x4", "a = conv(1x1, 4) -> shift(down = 1); b = conv(1x1, 4) -> shift(right = 1); a + b", []),
        ("2x3", "h = conv(3, 8, mask = causal(exclude)); a, b = h -> conv(1x1, 8) -> chunk(2); a + (b -> gelu)", []),
    ],
)  # fmt: skip
def test_dead_parts_of_priors_are_told(grid: str, body: str, expected: list[tuple[str, str]]) -> None:
    assert diagnosed(CODES.format(grid=grid, body=body)) == expected


def test_an_instance_that_reads_zeros_alone_is_told_where_others_of_its_text_do_not() -> None:
    cell = "cell masked { conv(3x3, 8, mask = causal(exclude)) }"
    text = spec(top=cell, encoder="8: conv(3x3, 8) -> masked -> { x + (global_pool -> masked) } -> tap")
    warnings = check(Source("small.hv", text)).warnings
    assert [d.message for d in warnings] == ["`conv` reads nothing but zeros in `encoder.r8.masked.1`"]
    shared = text.replace(
        "cell masked { conv(3x3, 8, mask = causal(exclude)) }", "shared masked = conv(3x3, 8, mask = causal(exclude))"
    )
    assert diagnosed(shared) == []  # its weights learn from the other use


def test_what_is_drawn_on_the_way_up_is_no_sum() -> None:
    rise = "group rise { u ~ posterior normal(conv(1x1, 8))\n u -> conv(1x1, 8) }"
    fall = "group fall { u ~ normal(conv(1x1, 8)) posterior skip(u)\n x + (u -> conv(1x1, 8)) }"
    text = spec(top=f"{rise}\n{fall}", encoder="8: conv(3x3, 8) -> { 1 - x } -> rise -> tap", decoder="layer -> fall")
    assert diagnosed(text) == []


def test_one_blind_group_among_others_is_a_warning() -> None:
    blind = "group noise { u ~ normal(conv(1x1, 8)) posterior normal(conv(1x1, 8))\n x + (u -> conv(1x1, 8)) }"
    assert diagnosed(spec(top=blind, decoder="layer -> noise")) == [("HV0907", "normal(conv(1x1, 8))")]


@pytest.mark.parametrize(
    ("own", "beta", "is_told"),
    [
        ("", "", False),
        (" { weight = 0.5 }", "", False),
        (" { weight = 0 }", "", True),
        ("", ", beta = 0", True),
        ("", ", beta = linear(from = 0, to = 1, length = 10)", False),
    ],
)
def test_a_prior_whose_rate_has_no_weight_is_told(own: str, beta: str, is_told: bool) -> None:
    text = spec(posterior="concat(x, skip)").replace("-> conv(1x1, 8))\n  x", f"-> conv(1x1, 8)){own}\n  x")
    text = text.replace("nats_per_dim", f"nats_per_dim{beta}")
    assert diagnosed(text) == ([("HV0909", "normal(conv(1x1, 8))")] if is_told else [])
    assert diagnosed(text.replace("z ~ normal(conv(1x1, 8))", "z ~ normal(standard(4))")) == []


def test_a_binding_and_what_it_computes_are_one_warning() -> None:
    assert [code for code, _ in diagnosed(spec(body="h = conv(1x1, 8)\n  x + (z -> conv(1x1, 8))"))] == ["HV0904"]


@pytest.mark.parametrize(
    ("data", "is_told"),
    [
        ("bits = 8", True),
        ("bits = 8, input = v / 127.5 - 1", False),
        ("bits = 8, input = (v - 120) / 11", True),
        ("bits = 8, binarize = threshold, target = 2 * v - 1", False),
    ],
)
def test_an_encoder_that_gets_large_numbers_is_told(data: str, is_told: bool) -> None:
    text = spec().replace("bits = 4, input = v / 7.5 - 1", data).replace("discretized_logistic_mixture(2)", "normal")
    assert ("HV0908" in [code for code, _ in diagnosed(text)]) is is_told


def test_a_comment_allows_a_warning_on_its_line() -> None:
    allowed = spec(top="let width = 8  # hv: allow HV0903, HV0904")
    assert diagnosed(allowed) == []
    assert [code for code, _ in diagnosed(allowed.replace("HV0903", "HV0905"))] == ["HV0903"]


def test_strict_takes_warnings_for_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.hv"
    file.write_text(spec(top="let width = 8"))
    assert main(["check", str(file)]) == 0
    assert main(["check", "--strict", str(file)]) == 1
    assert "hv: allow" in capsys.readouterr().err
    file.write_text(spec())
    assert main(["check", "--strict", str(file)]) == 0
