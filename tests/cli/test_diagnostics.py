"""How a diagnostic looks."""

from __future__ import annotations

import pytest

from hvdsl.grammar.diagnostics import Code, Diagnostic
from hvdsl.grammar.source import Source, Span
from hvdsl.render.diagnostics import LONGEST_LINE, as_data, cells_of, render

CODE = Code("HV0399", "a test", "", "", "")


def drawn(text: str, start: int, end: int, found: str = "", expected: str = "", help: str = "") -> list[str]:
    span = Span(Source("a.hv", text), start, end)
    return render([Diagnostic(CODE, "something is wrong", span, found, expected, help)]).splitlines()


def test_the_picture() -> None:
    text = "let a = 1\nlet b = c\n"
    at = text.index("c\n")
    assert drawn(text, at, at + 1, found="no `c`", expected="a name", help="write `a`") == [
        "error[HV0399]: something is wrong",
        "  ┌─ a.hv:2:9",
        "2 │ let b = c",
        "  │         ^ no `c`",
        "  = expected: a name",
        "  = help: write `a`",
    ]


@pytest.mark.parametrize("before", ["\t", "\t\t  ", "let 名前 = ", "é = ", "e\u0301 = "])
def test_the_caret_stands_under_its_character(before: str) -> None:
    lines = drawn(f"{before}wrong + 1", len(before), len(before) + 5)
    line, caret = lines[2], lines[3]
    assert cells_of(line[: line.index("wrong")]) == cells_of(caret[: caret.index("^")])
    assert caret.count("^") == 5


def test_several_lines_are_bracketed() -> None:
    text = "a = f(\n  1,\n  2\n)"
    lines = drawn(text, 4, len(text), found="too much")
    assert lines[2].startswith("1 │ ╭ a = f(")
    assert lines[-1].endswith("^ too much")
    assert any(line.startswith("4 │ │ )") for line in lines)


def test_a_very_long_line_is_cut_around_the_caret() -> None:
    text = "(" * 100_000 + "x" + ")" * 100_000
    lines = drawn(text, 100_000, 100_001)
    assert all(cells_of(line) < LONGEST_LINE + 10 for line in lines)
    assert lines[2][lines[3].index("^")] == "x"


def test_control_characters_cannot_reach_the_terminal() -> None:
    lines = drawn("a\x1b[2Jb \u202ewrong", 7, 12, found="\x1b]0;title\x07")
    assert all(line.isprintable() for line in lines)


def test_an_end_of_file_can_be_pointed_at() -> None:
    assert drawn("let a =", 7, 7)[3] == "  │        ^"


def test_repetition_is_told_once() -> None:
    found = Diagnostic(CODE, "something is wrong", None, count=22)
    assert "22 expanded copies" in render([found])


def test_colour_only_on_request() -> None:
    found = Diagnostic(CODE, "something is wrong", None)
    assert "\x1b[" not in render([found])
    assert "\x1b[1;31merror[HV0399]\x1b[0m" in render([found], colour=True)


def test_the_end_in_json_is_one_past_the_last_character() -> None:
    span = Span(Source("a.hv", "one\ntwo\n"), 4, 7)
    data = as_data(Diagnostic(CODE, "wrong", span))
    assert (data["line"], data["column"], data["end_line"], data["end_column"]) == (2, 1, 2, 4)
