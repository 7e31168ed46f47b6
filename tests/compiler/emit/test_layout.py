"""However an expression is broken into lines, it stays the same expression."""

from __future__ import annotations

import ast
import random

import pytest

from hvdsl.compiler.emit.syntax import WIDTH, assignment_lines

OPERATORS: list[type[ast.operator]] = [ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Pow]


def _expression(draw: random.Random, depth: int) -> ast.expr:
    kind = draw.random()
    if depth == 0 or kind < 0.15:
        return ast.Name(draw.choice("abcdefgh") * draw.randint(1, 40))
    if kind < 0.7:
        left, right = _expression(draw, depth - 1), _expression(draw, depth - 1)
        return ast.BinOp(left, draw.choice(OPERATORS)(), right)
    if kind < 0.9:
        args = [_expression(draw, depth - 1) for _ in range(draw.randint(0, 3))]
        return ast.Call(ast.Attribute(_expression(draw, depth - 1), "method"), args, [])
    if kind < 0.95:
        return ast.UnaryOp(ast.USub(), _expression(draw, depth - 1))
    return ast.Tuple([_expression(draw, depth - 1) for _ in range(2)])


@pytest.mark.parametrize("seed", range(4))
def test_broken_lines_say_the_same(seed: int) -> None:
    draw, broken = random.Random(seed), 0
    for _ in range(150):
        value = _expression(draw, draw.randint(1, 5))
        lines = assignment_lines(["x"], value, 0)
        broken += len(lines) > 1
        [statement] = ast.parse("\n".join(lines)).body
        assert isinstance(statement, ast.Assign)
        assert ast.dump(statement.value) == ast.dump(ast.parse(ast.unparse(value)).body[0].value)  # type: ignore[attr-defined]
    assert broken > 20


def test_a_quotient_of_a_long_sum_keeps_its_parentheses() -> None:
    long = [name * 40 for name in "abc"]
    lines = assignment_lines(["x"], ast.parse(f"({' + '.join(long)}) / 3", mode="eval").body, 1)
    assert all(len(line) <= WIDTH for line in lines)
    assert "".join(lines).replace(" ", "") == f"x=(({'+'.join(long)})/3)"
