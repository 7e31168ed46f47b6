"""Source text from expressions: one line where it fits, else one item a line, as a formatter would lay it out."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

WIDTH = 110
INDENT = "    "
SLICE = re.compile(r"\[(?=[^\[\]]* )([^\[\]:]+):([^\[\]:]+)\]")  # compound bounds have spaces around their colon


def unparse(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        return f"({', '.join(unparse(e) for e in node.elts)})"
    return SLICE.sub(r"[\1 : \2]", ast.unparse(node))


def lines(head: str, node: ast.expr, tail: str = "", depth: int = 0) -> list[str]:
    """Lay out `head` + expression + `tail` at an indentation of `depth` levels."""
    pad = INDENT * depth
    flat = f"{pad}{head}{unparse(node)}{tail}"
    if len(flat) <= WIDTH:
        return [flat]
    return _broken(head, node, tail, depth) or [flat]


def _broken(head: str, node: ast.expr, tail: str, depth: int) -> list[str]:
    pad = INDENT * depth
    if isinstance(node, ast.Call) and (node.args or node.keywords):
        opening, closing = f"{head}{unparse(node.func)}(", ")"
        only = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(only, ast.List | ast.ListComp):  # `nn.ModuleList([` hugs its one bracket
            return lines(opening, only, closing + tail, depth)
        items = [("", a) for a in node.args] + [(f"{k.arg}=", k.value) for k in node.keywords]
    elif isinstance(node, ast.List | ast.Tuple) and node.elts:
        opening, closing = (
            head + ("[" if isinstance(node, ast.List) else "("),
            "]" if isinstance(node, ast.List) else ")",
        )
        items = [("", e) for e in node.elts]
    elif isinstance(node, ast.ListComp):
        turns = [ast.unparse(ast.ListComp(ast.Name("_"), [g]))[3:-1] for g in node.generators]
        return [
            f"{pad}{head}[",
            *lines("", node.elt, "", depth + 1),
            *(f"{INDENT * (depth + 1)}{turn}" for turn in turns),
            f"{pad}]{tail}",
        ]
    elif isinstance(node, ast.BinOp):
        return [f"{pad}{head}(", *_operation(node, depth + 1), f"{pad}){tail}"]
    else:
        return []
    return [f"{pad}{opening}", *_items(items, depth + 1), f"{pad}{closing}{tail}"]


def _items(items: Sequence[tuple[str, ast.expr]], depth: int) -> list[str]:
    joined = ", ".join(h + unparse(e) for h, e in items)
    one = f"{INDENT * depth}{joined}"
    if len(one) <= WIDTH and not isinstance(items[0][1], ast.Starred):
        return [one]
    return [line for h, e in items for line in lines(h, e, ",", depth)]


def _operation(node: ast.BinOp, depth: int) -> list[str]:
    """Break `a + b + c` before its operators."""
    terms: list[tuple[str, ast.expr]] = []
    left: ast.expr = node
    while isinstance(left, ast.BinOp) and isinstance(left.op, type(node.op)):
        sign = ast.unparse(ast.BinOp(ast.Name("a"), left.op, ast.Name("b"))).split()[1]
        terms.append((f"{sign} ", left.right))
        left = left.left
    terms.append(("", left))
    return [line for head, term in reversed(terms) for line in lines(head, term, "", depth)]


def assignment(targets: Sequence[str], value: ast.expr, depth: int) -> list[str]:
    """Lay out `a, b = value`; where the targets alone are too long, in parentheses."""
    head = ", ".join(targets)
    if len(f"{INDENT * depth}{head} = (") < WIDTH - len(unparse(value)) or len(targets) == 1:
        return lines(f"{head} = ", value, depth=depth)
    inner = [f"{INDENT * (depth + 1)}{some}," for some in filled(targets, ", ", ",", depth + 1)]
    return [f"{INDENT * depth}(", *inner, *lines(") = ", value, depth=depth)]


def filled(items: Sequence[str], separator: str, tail: str, depth: int) -> list[str]:
    """Join items to as few lines as hold them, each with room for `tail`."""
    done: list[str] = []
    for item in items:
        longer = f"{done[-1]}{separator}{item}" if done else item
        if done and len(f"{INDENT * depth}{longer}{tail}") <= WIDTH:
            done[-1] = longer
        else:
            done.append(item)
    return done
