"""Python from names, values and texts of the catalogue, as syntax trees, laid out as a formatter would.

`identifier`, `constant_node`, `literal` and `call` are the one place where anything becomes source: numbers, words and
identifiers, checked; nothing else can be written. `Names` says who has which name. A `Template` has slots for operands
and literals that may become names. `expression_lines` writes one line where an expression fits, else one item a line.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from hvdsl.compiler.graph import Literal, Term
from hvdsl.grammar.record import Record, record

MODULE_LEVEL = frozenset({"F", "Model", "Tensor", "annotations", "math", "nn", "torch"})
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BUILTINS = frozenset(name for name in dir(builtins) if name.islower())


def identifier(name: str) -> str:
    """Return `name` if it can stand in Python source as it is.

    Raises:
        ValueError: if it is anything but an ASCII identifier, or a keyword. The grammar admits no other characters, so
        this is the last line of defence.
    """
    if keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be an identifier of emitted code")
    return word(name)


def word(name: str) -> str:
    """Return `name` if it can stand between quotation marks: a name of the spec, which may be a keyword of Python.

    Raises:
        ValueError: if it is anything but ASCII letters, digits and underscores.
    """
    if not _IDENTIFIER.match(name):
        raise ValueError(f"{name!r} cannot be a name in emitted code")
    return name


def camel(name: str) -> str:
    """`inverted_residual` becomes `InvertedResidual`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Recipe"


class Names:
    """Gives out names, each once, none of which hides another that the code needs."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | MODULE_LEVEL | _BUILTINS | {"self"}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, name: str) -> str:
        """Return `name`, with an underscore or a number behind it where it is taken or reserved."""
        if keyword.iskeyword(name) or name in MODULE_LEVEL or name in _BUILTINS:
            name += "_"
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}" if name[-1:].isdigit() else f"{name}{number}"
        self._taken.add(free)
        return identifier(free)

    def release(self, name: str) -> None:
        self._taken.discard(name)


class _Quoted(str):
    """A string that `ast.unparse` writes in double quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        plain = repr(str(self))
        if plain.startswith("'") and '"' not in plain:
            return f'"{plain[1:-1]}"'
        return plain


def constant_node(value: str | int | float | bool | None) -> ast.expr:
    if isinstance(value, str):
        return ast.Constant(_Quoted(value))
    if isinstance(value, float) and not math.isfinite(value):
        return call("float", constant_node("nan" if math.isnan(value) else "inf" if value > 0 else "-inf"))
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def literal(value: Literal) -> ast.expr:
    """Write an argument: a number, a word, or a small call such as `scaled(0.5)`.

    Raises:
        ValueError: if a name in it is no identifier.
        TypeError: if it is nothing that a graph may hold.
    """
    if isinstance(value, Term):
        return call(value.name, *map(literal, value.args), **{k: literal(v) for k, v in value.options})
    if isinstance(value, tuple):
        return ast.Tuple([literal(v) for v in value], ast.Load())
    if value is None or isinstance(value, str | int | float | bool):
        return constant_node(value)
    raise TypeError(f"{type(value).__name__} is no literal")


def name(text: str) -> ast.Name:
    return ast.Name(identifier(text), ast.Load())


def dotted(base: str, *steps: str | int) -> ast.expr:
    """`dotted("self", "q", "conv", 0)` is `self.q.conv[0]`."""
    result: ast.expr = name(base)
    for step in steps:
        if isinstance(step, int):
            result = ast.Subscript(result, ast.Constant(step), ast.Load())
        else:
            result = ast.Attribute(result, identifier(step), ast.Load())
    return result


def call(function: str | ast.expr, *args: ast.expr, **options: ast.expr) -> ast.Call:
    head = name(function) if isinstance(function, str) else function
    return ast.Call(head, list(args), [ast.keyword(identifier(k), v) for k, v in options.items()])


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
    literals: list[Literal] = []

    class Abstract(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            value = _number(node)
            if value is not None:
                literals.append(value)
                return ast.Name(f"{HOLE}{len(literals) - 1}", ast.Load())
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
    return Template(ast.unparse(tree)), tuple(literals)


def fill(template: Template, operands: Sequence[ast.expr], values: Sequence[ast.expr]) -> ast.expr:
    """Put operands and literals into a template."""
    known = {slot(i): e for i, e in enumerate(operands)} | {f"{HOLE}{i}": e for i, e in enumerate(values)}
    return substitute(template.tree, known)


def substitute(tree: ast.expr, known: Mapping[str, ast.expr]) -> ast.expr:
    class Substitute(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return known.get(node.id, node)

        def visit_Constant(self, node: ast.Constant) -> ast.expr:
            return constant_node(node.value) if isinstance(node.value, str) else node

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


WIDTH = 110
INDENT = "    "
SLICE = re.compile(r"\[(?=[^\[\]]* )([^\[\]:]+):([^\[\]:]+)\]")  # compound bounds have spaces around their colon


def unparse(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        return f"({', '.join(unparse(e) for e in node.elts)})"
    return SLICE.sub(r"[\1 : \2]", ast.unparse(node))


def expression_lines(head: str, node: ast.expr, tail: str = "", depth: int = 0) -> list[str]:
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
            return expression_lines(opening, only, closing + tail, depth)
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
            *expression_lines("", node.elt, "", depth + 1),
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
    return [line for h, e in items for line in expression_lines(h, e, ",", depth)]


def _operation(node: ast.BinOp, depth: int) -> list[str]:
    """Break `a + b + c` before its operators. An operand keeps the parentheses that it needs on one line."""
    lines: list[list[str]] = []
    left: ast.expr = node
    while True:
        assert isinstance(left, ast.BinOp)
        sign = ast.unparse(ast.BinOp(ast.Name("a"), left.op, ast.Name("b"))).split()[1]
        right = ast.unparse(ast.BinOp(ast.Name("a"), left.op, left.right))
        lines.append(_operand(f"{sign} ", left.right, right == f"a {sign} ({ast.unparse(left.right)})", depth))
        first, op = left.left, left.op
        is_enclosed = ast.unparse(ast.BinOp(first, op, ast.Name("b"))) == f"({ast.unparse(first)}) {sign} b"
        if is_enclosed or not (isinstance(first, ast.BinOp) and isinstance(first.op, type(op))):
            lines.append(_operand("", first, is_enclosed, depth))
            return [line for operand in reversed(lines) for line in operand]
        left = first


def _operand(head: str, node: ast.expr, is_enclosed: bool, depth: int) -> list[str]:
    if not is_enclosed:
        return expression_lines(head, node, "", depth)
    flat = f"{INDENT * depth}{head}({unparse(node)})"
    return [flat] if len(flat) <= WIDTH else _broken(head, node, "", depth) or [flat]


def assignment_lines(targets: Sequence[str], value: ast.expr, depth: int) -> list[str]:
    """Lay out `a, b = value`; where the targets alone are too long, in parentheses."""
    head = ", ".join(targets)
    if len(f"{INDENT * depth}{head} = (") < WIDTH - len(unparse(value)) or len(targets) == 1:
        return expression_lines(f"{head} = ", value, depth=depth)
    inner = [f"{INDENT * (depth + 1)}{some}," for some in filled(targets, ", ", ",", depth + 1)]
    return [f"{INDENT * depth}(", *inner, *expression_lines(") = ", value, depth=depth)]


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
