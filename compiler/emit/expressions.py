"""What the operation table says in text, as syntax trees: slots for operands, literals that may become names."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache

from hvdsl.compiler.emit import literals
from hvdsl.compiler.graph import Literal
from hvdsl.grammar.record import Record, record

SLOT = "_operand_"
HOLE = "_literal_"


@record
class Template(Record):
    """An expression in which operand i stands as `_operand_i` and literal j as `_literal_j`."""

    text: str

    @property
    def tree(self) -> ast.expr:
        return _parse(self.text)


def slot(index: int) -> str:
    """The name by which a template knows operand `index`."""
    return f"{SLOT}{index}"


@lru_cache(maxsize=4096)
def abstract(text: str) -> tuple[Template, tuple[Literal, ...]]:
    """Take the numbers and tuples of numbers out of an expression.

    `F.avg_pool2d(_operand_0, 2)` gives `F.avg_pool2d(_operand_0, _literal_0)` and `(2,)`.
    """
    found: list[Literal] = []

    class Abstract(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            value = _number(node)
            if value is not None:
                found.append(value)
                return ast.Name(f"{HOLE}{len(found) - 1}", ast.Load())
            if isinstance(node, ast.Subscript):  # an index chooses; it is structure
                node.value = self._expression(node.value)
                return node
            return super().generic_visit(node)

        def _expression(self, node: ast.expr) -> ast.expr:
            changed = self.visit(node)
            if not isinstance(changed, ast.expr):
                raise TypeError(f"{ast.dump(changed)} is no expression")
            return changed

    tree = Abstract().visit(_parse(text))
    if not isinstance(tree, ast.expr):
        raise TypeError(f"{text!r} is no expression")
    return Template(ast.unparse(tree)), tuple(found)


def fill(template: Template, operands: Sequence[ast.expr], values: Sequence[ast.expr]) -> ast.expr:
    """Put operands and literals into a template."""
    known = {slot(i): e for i, e in enumerate(operands)} | {f"{HOLE}{i}": e for i, e in enumerate(values)}
    return substitute(template.tree, known)


def substitute(tree: ast.expr, known: Mapping[str, ast.expr]) -> ast.expr:
    class Substitute(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return known.get(node.id, node)

        def visit_Constant(self, node: ast.Constant) -> ast.expr:
            return literals.constant(node.value) if isinstance(node.value, str) else node

    result = Substitute().visit(tree)
    if not isinstance(result, ast.expr):
        raise TypeError(f"{ast.dump(result)} is no expression")
    return result


def _parse(text: str) -> ast.expr:
    """A fresh tree each time: transformers work in place."""
    return ast.parse(text, mode="eval").body


def _number(node: ast.AST) -> Literal:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return -inner if isinstance(inner, int | float) else None
    if isinstance(node, ast.Tuple | ast.List):
        items = [_number(e) for e in node.elts]
        return None if any(i is None for i in items) or isinstance(node, ast.List) else tuple(items)
    return None
