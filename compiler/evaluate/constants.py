"""Constants: expressions that need no tensors, as settings, labels and the likelihood are written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.faults import Fault
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.graph import Literal, Term
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import SpecError

_Value: TypeAlias = "Literal | list[_Value] | tree.Map"

KEYWORDS: dict[str, bool | None] = {"yes": True, "no": False, "none": None}
# Deeper nesting has no use, and must not exhaust the interpreter's stack.
DEEPEST = 100


def constant(expr: tree.Expr, lets: Mapping[str, tree.Expr], context: Mapping[str, Literal] | None = None) -> Literal:
    """Evaluate an expression that needs no tensors.

    Args:
        expr: what was written.
        lets: the top-level `let`s, which are late-bound; names of `context` hide them.
        context: names with fixed values, such as `logits`.

    Returns:
        A number, switch, string, `None`, or tuple of these (a list becomes a tuple, `3x32x32` becomes
        `(3, 32, 32)`). A bare word that names nothing becomes `Term(word)`, a call of one
        `Term(word, args, options)`; inside such arguments a bare word is a `str`.

    Raises:
        SpecError: the expression has no constant value.
    """
    try:
        return _Constants(lets, context or {}).literal(expr)
    except Fault as fault:
        raise SpecError([fault.diagnostic]) from None


class _Constants:
    def __init__(self, lets: Mapping[str, tree.Expr], context: Mapping[str, Literal]) -> None:
        self._lets, self._context = lets, context
        self._known: dict[str, _Value] = {}
        self._open: list[str] = []
        self._depth = 0

    def literal(self, expr: tree.Expr, inside: bool = False) -> Literal:
        """Evaluate to a literal; `inside` a word's arguments, bare words are strings."""
        value = self._plain(self.evaluate(expr), expr)
        return value.name if inside and isinstance(value, Term) and not (value.args or value.options) else value

    def _plain(self, value: _Value, expr: tree.Expr) -> Literal:
        if isinstance(value, tree.Map):
            raise Fault(
                codes.NOT_CONSTANT,
                "a map is not a value by itself",
                expr.span,
                expected="an entry of it, as in `w[8]`",
            )
        if isinstance(value, list):
            return tuple(self._plain(v, expr) for v in value)
        return value

    def evaluate(self, expr: tree.Expr) -> _Value:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Fault(codes.NOT_CONSTANT, f"nested more than {DEEPEST} deep", expr.span)
        try:
            return self._evaluate(expr)
        finally:
            self._depth -= 1

    def _evaluate(self, expr: tree.Expr) -> _Value:
        match expr:
            case tree.Number():
                return number_of(expr)
            case tree.Dim():
                return expr.sizes
            case tree.String():
                return expr.value
            case tree.Name():
                return self._name(expr)
            case tree.Tuple():
                return tuple(self.literal(item) for item in expr.items)
            case tree.List():
                return [self.evaluate(item) for item in expr.items]
            case tree.Map():
                return expr
            case tree.Unary():
                value = self.literal(expr.operand)
                if expr.operator == "not":
                    return not arithmetic.switch(value, expr.operand.span)
                return -arithmetic.number(value, expr.operand.span)
            case tree.Binary():
                return self._binary(expr)
            case tree.Choose():
                test = arithmetic.switch(self.literal(expr.test), expr.test.span)
                return self.evaluate(expr.then if test else expr.other)
            case tree.Item():
                return self._item(expr)
            case tree.Call():
                return self._call(expr)
            case _:
                raise Fault(
                    codes.NOT_CONSTANT,
                    "this is not a constant",
                    expr.span,
                    expected="a number, word, string or tuple",
                )

    def _name(self, name: tree.Name) -> _Value:
        if name.id in KEYWORDS:
            return KEYWORDS[name.id]
        if name.id in self._context:
            return self._context[name.id]
        if name.id not in self._lets:
            return Term(name.id)
        if name.id not in self._known:
            if name.id in self._open:
                raise circular([*self._open[self._open.index(name.id) :], name.id], name)
            self._open.append(name.id)
            self._known[name.id] = self.evaluate(self._lets[name.id])
            self._open.pop()
        return self._known[name.id]

    def _binary(self, expr: tree.Binary) -> Literal:
        left = self.literal(expr.left)
        if expr.operator in ("and", "or"):
            first = arithmetic.switch(left, expr.left.span)
            if first == (expr.operator == "or"):
                return first
            return arithmetic.switch(self.literal(expr.right), expr.right.span)
        return arithmetic.binary(expr.operator, left, self.literal(expr.right), expr.span)

    def _item(self, expr: tree.Item) -> _Value:
        base = self.evaluate(expr.base)
        key = self.literal(expr.index)
        if isinstance(base, tree.Map):
            chosen: tree.Expr | None = None
            for entry in base.entries:
                if entry.key is None:
                    chosen = chosen or entry.value
                elif self.literal(entry.key) == key:
                    chosen = entry.value
                    break
            if chosen is None:
                raise no_such_item(key, expr)
            return self.evaluate(chosen)
        return item_of(base, key, expr)

    def _call(self, expr: tree.Call) -> Literal:
        if not isinstance(expr.function, tree.Name):
            raise Fault(codes.NOT_CONSTANT, "only a word can be called here", expr.function.span)
        name = expr.function.id
        if name in arithmetic.FUNCTIONS and all(a.name is None for a in expr.arguments):
            return arithmetic.function(name, [self.evaluate(a.value) for a in expr.arguments], expr.span)
        if name in self._lets or name in self._context:
            raise Fault(codes.WRONG_KIND, f"`{name}` is a value, and takes no arguments", expr.function.span)
        args = tuple(self.literal(a.value, inside=True) for a in expr.arguments if a.name is None)
        options = tuple((a.name, self.literal(a.value, inside=True)) for a in expr.arguments if a.name is not None)
        return Term(name, args, options)


def number_of(expr: tree.Number) -> int | float:
    """Return the value of a number as written, which must not be out of all proportion."""
    value = expr.value if len(expr.text) <= 40 else float("inf")
    if (abs(value) > arithmetic.MOST and isinstance(value, int)) or value == float("inf"):
        raise Fault(
            codes.NOT_A_NUMBER,
            "this number is too large",
            expr.span,
            expected=f"at most {arithmetic.MOST:.0e}",
        )
    return value


def circular(names: list[str], at: tree.Name) -> Fault:
    chain = " -> ".join(f"`{n}`" for n in names)
    return Fault(
        codes.CIRCULAR_LET,
        f"`{at.id}` is defined by itself",
        at.span,
        chain,
        "a value that does not need its own",
    )


def no_such_item(key: object, expr: tree.Item) -> Fault:
    return Fault(
        codes.NO_SUCH_ITEM,
        f"no entry for {arithmetic.describe(key)}",
        expr.index.span,
        help="add the entry, or an `else:` entry for all others",
    )


def item_of(base: object, key: object, expr: tree.Item) -> Literal:
    """Return the entry of a list or tuple at a position."""
    if not isinstance(base, list | tuple):
        raise Fault(
            codes.WRONG_KIND,
            "this has no entries",
            expr.base.span,
            arithmetic.describe(base),
            "a map, list or tuple",
        )
    position = arithmetic.integer(key, expr.index.span, "a position")
    if not 0 <= position < len(base):
        raise Fault(
            codes.NO_SUCH_ITEM,
            f"no entry {position}",
            expr.index.span,
            expected=f"a position from 0 to {len(base) - 1}",
        )
    entry: Literal = base[position]
    return entry
