"""Constants: expressions that need no tensors, as settings, labels and the likelihood are written in."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hvdsl.compiler.catalogue.table import Argument
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.binding import OPERATION, Reports, Slot
from hvdsl.compiler.evaluate.expressions import Evaluator, as_literal, circular, unknown
from hvdsl.compiler.graph import Literal, Term
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault

DEEPEST = 100
"""Deeper nesting has no use, and must not exhaust the interpreter's stack."""


class Constants(Evaluator[None]):
    """The evaluator of what is fixed before anything is built.

    Args:
        lets: the top-level `let`s, which are late-bound.
        names: names with fixed values, which hide the `let`s.
        reports: the codes under which calls report mistakes.
    """

    places = "a `let`"

    def __init__(
        self,
        lets: Mapping[str, tree.Expr],
        names: Mapping[str, object] | None = None,
        reports: Reports = OPERATION,
    ) -> None:
        self.reports = reports
        self._lets, self._names = lets, names or {}
        self._known: dict[tuple[str, tuple[str, ...]], object] = {}
        self._open: list[str] = []
        self._depth = 0

    def evaluate(self, expr: tree.Expr, environment: None = None, wanted: Argument | None = None) -> object:
        self._depth += 1
        try:
            if self._depth > DEEPEST:
                raise Fault(
                    codes.NOT_CONSTANT,
                    f"nested more than {DEEPEST} deep",
                    expr.span,
                    "a deep expression",
                    "a shallow one",
                    "give its parts names by `let`",
                )
            return self.worth(expr, environment, wanted)
        finally:
            self._depth -= 1

    def read(self, slot: Slot, expr: tree.Expr) -> Literal:
        """Return the value of an argument, in the argument's form."""
        return self.argument(slot, expr, None)

    def lookup(self, name: tree.Name, environment: None, wanted: Argument | None) -> object:
        if name.id in self._names:
            return self._names[name.id]
        if name.id in self._lets:
            return self._let(name, wanted)
        if name.id == arithmetic.PI:
            return math.pi
        raise unknown(name, [*self._names, *self._lets], wanted, self.places)

    def _let(self, name: tree.Name, wanted: Argument | None) -> object:
        """Evaluate a `let`, whose whole value may be a word of the argument that it is the whole value of."""
        for words in ((), wanted.words if wanted is not None else ()):
            if (name.id, words) in self._known:
                return self._known[name.id, words]
        if name.id in self._open:
            raise circular([*self._open[self._open.index(name.id) :], name.id], name)
        self._open.append(name.id)
        value = self.evaluate(self._lets[name.id], None, wanted)
        self._open.pop()
        self._known[name.id, wanted.words if wanted is not None and isinstance(value, Term) else ()] = value
        return value

    def call(self, expr: tree.Call | tree.WithBlock, environment: None, wanted: Argument | None) -> object:
        if isinstance(expr, tree.WithBlock):
            return self.flow(expr.block, environment)
        if not isinstance(expr.function, tree.Name):
            raise Fault(
                codes.NOT_CONSTANT,
                "only a word can be called here",
                expr.function.span,
                f"`{expr.function.span.text}`",
                "a function or a word with arguments",
                "name what is called",
            )
        name = expr.function.id
        if name in self._names or name in self._lets:
            raise Fault(
                codes.WRONG_KIND,
                f"`{name}` is a value, and takes no arguments",
                expr.function.span,
                f"`{expr.span.text}`",
                f"`{name}`",
                "remove the parentheses",
            )
        if name in arithmetic.FUNCTIONS:
            return self.function(name, expr, environment)
        raise unknown(expr.function, [*self._names, *self._lets, *arithmetic.FUNCTIONS], wanted, self.places)


def constant_value(
    expr: tree.Expr,
    lets: Mapping[str, tree.Expr],
    names: Mapping[str, Literal] | None = None,
    wanted: Argument | None = None,
) -> Literal:
    """Evaluate an expression that needs no tensors.

    Args:
        expr: what is written.
        lets: the top-level `let`s, which are late-bound; `names` hide them.
        names: names with fixed values, such as `logits`.
        wanted: the argument whose words the whole value may be.

    Returns:
        A number, switch, string, `None`, or tuple of these (a list becomes a tuple, `3x32x32` becomes
        `(3, 32, 32)`), or a `Term` for a word. Inside a word's arguments a bare word is a `str`.

    Raises:
        SpecError: the expression has no constant value.
    """
    return as_literal(Constants(lets, names).evaluate(expr, None, wanted), expr.span)
