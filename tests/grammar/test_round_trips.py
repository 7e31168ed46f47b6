"""Laws: reading what was printed gives the same tree, printing again the same text, and comments survive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from hvdsl.grammar import (
    canonical,
    format_text,
    print_expression,
    print_text,
    print_yaml,
    read,
    read_expression,
    read_text,
    read_yaml,
    tree,
)
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from tests.grammar.strategies import expressions, specs

CASES = sorted((Path(__file__).parent / "cases").glob("*.hv"))
laws = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def text(content: str) -> Source:
    return Source("t.hv", content)


def comments_of(content: str) -> list[str]:
    outside = re.sub(r'"[^"\n]*"', "", content)  # a string may hold a `#`
    return sorted(re.findall(r"#.*", outside))


@laws
@given(expressions)
def test_an_expression_survives_printing(expression: tree.Expr) -> None:
    printed = print_expression(expression)
    assert read_expression(text(printed)) == expression


@laws
@given(specs())
def test_a_spec_survives_printing_and_prints_the_same_again(spec: tree.Spec) -> None:
    printed = print_text(spec)
    again = read_text(text(printed))
    assert again == spec
    assert print_text(again) == printed


@laws
@given(specs())
def test_comments_survive_printing(spec: tree.Spec) -> None:
    printed = print_text(spec)
    assert len(comments_of(printed)) == repr_comments(spec)
    assert comments_of(format_text(text(printed))) == comments_of(printed)


def repr_comments(node: object) -> int:
    """Count the comments that a tree carries."""
    if isinstance(node, str):
        return int(node.startswith("#"))
    if isinstance(node, tuple):
        return sum(map(repr_comments, node))
    if isinstance(node, tree.TreeNode) and not isinstance(node, tree.String):
        return sum(repr_comments(getattr(node, name)) for name in node.__dataclass_fields__ if name != "span")
    return 0


@laws
@given(specs())
def test_a_spec_survives_the_yaml_form(spec: tree.Spec) -> None:
    try:
        printed = print_yaml(spec)
    except SpecError:  # a name stands twice: YAML cannot say it
        assume(False)
    assert read_yaml(Source("t.yaml", printed)) == canonical(spec)
    assert print_yaml(read_yaml(Source("t.yaml", printed))) == printed


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_the_published_models_round_trip(path: Path) -> None:
    spec = read(path)
    printed = print_text(spec)
    assert read_text(text(printed)) == spec
    assert format_text(text(printed)) == printed
    assert comments_of(printed) == comments_of(path.read_text())
    assert all(len(line.partition("#")[0]) <= 110 for line in printed.splitlines())
    assert read_yaml(Source("t.yaml", print_yaml(spec))) == canonical(spec)


SCATTERED = """# first
hv 1  # version
model m

cell c(  # head
  # a parameter
  out) {  # body
  # lead
  a = f(x,  # one
    y)  # two
  relu -> conv(1x1,
    # inside
    out) # end
  # last
}  # closed
data d {  # settings
  bits = 8, # bits
  shape = 3x3  # shape
  # nothing more
}
# the end
"""


def test_no_comment_is_lost_wherever_it_stands() -> None:
    once = format_text(text(SCATTERED))
    assert comments_of(once) == sorted(c.rstrip() for c in comments_of(SCATTERED))
    assert format_text(text(once)) == once
