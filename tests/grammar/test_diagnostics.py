"""What a person is told about a mistake: the code, the exact place, what was expected, a way out."""

from __future__ import annotations

import pytest

from hvdsl.grammar import read_expression, read_text, read_yaml
from hvdsl.grammar.diagnostic_codes import CODES, TOO_LARGE, TOO_MANY_TOKENS
from hvdsl.grammar.diagnostics import Code, Diagnostic, SpecError
from hvdsl.grammar.source import Source

BULKY = (TOO_LARGE, TOO_MANY_TOKENS)  # their examples would be megabytes; test_hostile.py has them


def mistakes(content: str, name: str = "t.hv") -> tuple[Diagnostic, ...]:
    reader = read_yaml if name.endswith(".yaml") else read_text
    with pytest.raises(SpecError) as caught:
        reader(Source(name, content))
    return caught.value.diagnostics


def only(content: str, name: str = "t.hv") -> Diagnostic:
    found = mistakes(content, name)
    assert len(found) == 1, [d.message for d in found]
    return found[0]


def place(content: str) -> tuple[str, str]:
    """Return a text without its «marks» and what stands between them."""
    before, rest = content.split("«")
    inside, after = rest.split("»")
    return before + inside + after, f"{len(before)}:{inside}"


def spot(diagnostic: Diagnostic) -> str:
    assert diagnostic.span is not None
    return f"{diagnostic.span.start}:{diagnostic.span.text}"


@pytest.mark.parametrize("code", [c for c in CODES if c not in BULKY], ids=lambda c: c.id)
def test_the_bad_example_gives_the_code_and_the_good_one_reads(code: Code) -> None:
    name = "t.yaml" if code.bad.startswith("hv:") else "t.hv"
    assert code.id in [d.code.id for d in mistakes(code.bad, name)]
    (read_yaml if name == "t.yaml" else read_text)(Source(name, code.good))


def test_codes_are_unique() -> None:
    assert len({c.id for c in CODES}) == len(CODES)


@pytest.mark.parametrize(
    ("marked", "code", "words"),
    [
        ("hv 1\n«modle» m\n", "HV0102", "did you mean `model`?"),
        ("hv 1\ncell c { «a + b» = relu }", "HV0103", "a name"),
        ("hv 1\ncell c { «f(x)» ~ normal(p) }", "HV0103", "z ~ normal(p)"),
        ("hv 1\ncell c «{»\n  relu\n\nencoder {\n 1: relu\n}\n", "HV0104", "add the missing `}`"),
        ("hv 1\ncell c { conv«(»3x3 }\n", "HV0104", "add the missing `)`"),
        ('hv 1\nmodel m\ntitle «"A model»\nlet a = 1\n', "HV0106", 'end the string with `"`'),
        ("hv 1\nlet a = «12abc»", "HV0107", "cannot start with a digit"),
        ("hv 1\nlet a = «.5»", "HV0107", "write `0.5`"),
        ("hv 1\nlet a = «5.»", "HV0107", "write `5.0`"),
        ("hv 1\nlet a = b «&&» c", "HV0109", "write `and`"),
        ("hv 1\nlet a = «!»c", "HV0109", "write `not`"),
        ("hv 1\nlet a «:=» c", "HV0109", "write `=`"),
        ("hv 1\nlet a = «'»b", "HV0108", "double quotes"),
        ("hv 1\ncell c {\n  x\n  «- y»\n}", "HV0110", "parentheses"),
        ("hv 1\ncell c {\n  x\n  «+» y\n}", "HV0101", "no statement begins with an operator"),
        ("hv 1\nlet a = 1 < 2 «<» 3", "HV0101", "do not chain"),
        ("hv 1\nlet a = f(1«;» 2)", "HV0101", "`;` ends a statement"),
        ("hv 1\nlet «if» = 1", "HV0101", "cannot be a name"),
        ("hv «7»\nmodel m\n", "HV0113", "write `hv 1`"),
        ("hv 1\nlet a = b «?» c : d", "HV0108", "a if test else b"),
        ("hv 1\ntitle «“»a”\n", "HV0108", "double quotes"),
        ("hv 1\nlet a = b «|» c", "HV0109", "write `->`"),
        ("hv 1\nlet a = 3«×»3", "HV0109", "`x` in a size"),
        ("hv 1\ncell c {\n  «if» a { b }\n}", "HV0101", "a if test else b"),
        ("hv 1\ncell c {\n  for «i» in range(3) { b }\n}", "HV0101", "step * n"),
        ("hv 1\ncell c {\n  return «x» + y\n}", "HV0101", "leave `return` out"),
        ("hv 1\ncell c { b «x» 3 }", "HV0101", "`b * 3`"),
        ("hv 1\ncell c { conv(3x3 «n») }", "HV0101", "put `,`"),
        ("hv 1\nuse «cells»\n", "HV0101", '`"cells"`'),
        ("hv 1\nlet a = 8 /«*» b", "HV0101", "begins with `#`"),
        ("hv 1\nencoder {\n  8 «conv»(1x1, 8)\n}", "HV0101", "as in `8: "),
        ("hv 1\nencoder {\n  8: conv(1x1, 8); relu «->» tap\n}", "HV0101", "stand in braces"),
        ("hv 1\nencoder {\n  8: h «=» conv(1x1, 8)\n}", "HV0101", "stand in braces"),
        ("hv 1\ndata d {\n  given age\n«}»", "HV0101", "`given age = 1`"),
        ("«model m»\n", "HV0112", "make `hv 1` the first line"),
    ],
)
def test_a_mistake_is_placed_exactly_and_helped(marked: str, code: str, words: str) -> None:
    content, expected = place(marked)
    found = only(content)
    assert (found.code.id, spot(found)) == (code, expected)
    assert words in f"{found.expected} | {found.help}"


def test_several_mistakes_are_reported_in_one_run() -> None:
    content = (
        "hv 1\nlet a = 1 2\ncell c {\n  relu relu\n  a + b = gelu\n  fine\n}\ndata d { a 1, b = 2, c = = 3 }\nmodle x\n"
    )
    assert [d.span.line for d in mistakes(content) if d.span] == [2, 4, 5, 8, 8, 9]


def test_expectations_are_in_the_languages_own_words() -> None:
    found = only("hv 1\nlet = 3")
    assert (found.found, found.expected) == ("`=`", "a name")
    assert only("hv 1\nlet a = ").expected == "a value or step or `{`" or "a value" in only("hv 1\nlet a = ").expected
    assert "_STOP" not in str([d.expected for d in mistakes("hv 1\ncell c(a b) { x } }")])


YAML = "hv: 1\nmodel: m\n"


@pytest.mark.parametrize(
    ("marked", "code"),
    [
        ("let:\n  a: 1 + «&&» 2\n".replace("+ ", ""), "HV0109"),
        ("let:\n  a: 'f(x) «&&» 2'\n", "HV0109"),
        ("let:\n  a: 'f(''x'', «12a»)'\n".replace("''x''", "x"), "HV0107"),
        ('let:\n  a: "f(\\x78,\\t«12a»)"\n', "HV0107"),
        ('let:\n  a: "f(x,\n\n    y) \\\n    + «12a»"\n', "HV0107"),
        ("let:\n  a: f(x,\n     y)\n     + «12a»\n", "HV0107"),
        ("cells:\n  c: |\n    relu\n\n    conv(«12a»)\n", "HV0107"),
        ("cells:\n  c: >-  # folded\n    relu ->\n    conv(«12a»)\n", "HV0107"),
        ("cells:\n  c:\n    - relu\n    - «a + b» = x\n", "HV0103"),
        ("cells:\n  c(«12a»): relu\n", "HV0107"),
        ("train z_top: {steps: «12a»}\n", "HV0107"),
        ("train «12a»: {steps: 1}\n", "HV0107"),
        ("let: {a: 1, «a»: 2}\n", "HV0116"),
        ("«lett»: {a: 1}\n", "HV0102"),
        ("model: «[a]»\n", "HV0115"),
    ],
)
def test_places_in_yaml_are_exact(marked: str, code: str) -> None:
    header = "hv: 1\n" if marked.startswith("model") else YAML
    content, expected = place(header + marked)
    found = only(content, "t.yaml")
    assert (found.code.id, spot(found)) == (code, expected)


def test_spans_of_nodes_cover_what_was_written() -> None:
    spec = read_text(Source("t.hv", "hv 1\nlet a = f(1, (b)) -> g\nencoder {\n  32: conv(3x3, 8) * 2\n}\n"))
    let, encoder = spec.items[1:]
    assert let.span.text == "let a = f(1, (b)) -> g"
    assert (let.span.line, let.span.column) == (2, 1)
    assert encoder.rows[0].value.span.text == "conv(3x3, 8) * 2"  # type: ignore[union-attr]


def test_line_breaks_end_statements_only_where_the_rule_says() -> None:
    def statements(body: str) -> int:
        spec = read_text(Source("t.hv", f"hv 1\ncell c {{{body}}}"))
        return len(spec.items[1].body.statements)  # type: ignore[union-attr]

    assert statements("\n a\n b ; c \r\n\r\n") == 3
    assert statements("a\n\n # note\n -> b") == 1
    assert statements("z ~ p # note\n posterior q") == 1
    assert statements("f(a\n, b\n) ->\n g,\n h") == 1
    assert statements("a =\n b; q ~\n r") == 2
    assert statements("f({\n a\n b\n})") == 1
    assert statements("") == 0
    assert statements(";;\n;") == 0


def test_words_of_items_are_names_elsewhere() -> None:
    spec = read_text(Source("t.hv", "hv 1\nobjective { kl = sample, data = model }\ndata sample { title = cell }\n"))
    assert len(spec.items) == 3


def test_a_byte_order_mark_is_accepted() -> None:
    assert len(read_text(Source("t.hv", "\ufeffhv 1\nmodel m\n")).items) == 2
    assert len(read_yaml(Source("t.yaml", "\ufeffhv: 1\nmodel: m\n")).items) == 2


def test_a_library_needs_no_version() -> None:
    assert len(read_text(Source("t.hv", "cell c { relu }\nlet a = 1\n")).items) == 2


def test_an_expression_alone() -> None:
    assert read_expression(Source("--set", "(0.9, 0.9)")) == read_expression(Source("--set", "0.9,0.9"))
    with pytest.raises(SpecError):
        read_expression(Source("--set", ""))
