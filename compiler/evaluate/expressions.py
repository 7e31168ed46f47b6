"""What an expression is worth: the one evaluator of the language.

`Evaluator` knows numbers, words, lists, maps, arithmetic and choices. What a name is worth, and what else may be
added, multiplied or called, its subclasses say: `constants.Constants` (settings, labels, likelihood),
`assembly.pixels` (the same with a symbolic `v`), `elaboration` (tensors, distributions and steps).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Required
from hvdsl.compiler.diagnostics import limits
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import INVALID, Deferred, Invalid, deferred
from hvdsl.compiler.evaluate.binding import OPERATION, Reports, Slot, accept, match, missing
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.suggest import did_you_mean, habit, nearest_word
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.source import Span

E = TypeVar("E")

KEYWORDS: dict[str, bool | None] = {"yes": True, "no": False, "none": None}
FEW = 20  # names that one line can list
_ORDER = ("==", "!=", "<", "<=", ">", ">=")


class Evaluator(ABC, Generic[E]):
    """Evaluates expressions in environments of kind `E`."""

    reports: Reports = OPERATION

    @abstractmethod
    def evaluate(self, expr: tree.Expr, environment: E, wanted: Argument | None = None) -> object:
        """Return what an expression is worth; `wanted` is the argument whose whole value it is.

        A bare name is a binding, a context name, a `let`, or a word that `wanted` declares.

        Raises:
            Fault: where it has no value.
        """

    @abstractmethod
    def lookup(self, name: tree.Name, environment: E, wanted: Argument | None) -> object:
        """Return what a name is worth that is no word of the argument wanted.

        Raises:
            Fault: where it names nothing.
        """

    @abstractmethod
    def call(self, expr: tree.Call | tree.WithBlock, environment: E, wanted: Argument | None) -> object:
        """Return what a call is worth that is no word of the argument wanted."""

    def flow(self, expr: tree.Flow | tree.Block, environment: E) -> object:
        """Return what `a -> b` or `{ … }` is worth; there is no such thing without tensors."""
        raise Fault(
            codes.NOT_CONSTANT,
            "this is not a constant",
            expr.span,
            "a step",
            "a number, word, string or tuple",
            "steps and tensors belong into recipes and rows",
        )

    def worth(self, expr: tree.Expr, environment: E, wanted: Argument | None) -> object:
        """Evaluate one expression; those within it go by way of `evaluate`."""
        match expr:
            case tree.Name():
                if expr.id in KEYWORDS:
                    return KEYWORDS[expr.id]
                word = own_word(wanted, expr)
                return (
                    self.lookup(expr, environment, wanted)
                    if word is None
                    else self.word(word, expr, environment, wanted)
                )
            case tree.Number():
                return number_of(expr)
            case tree.Call():
                word = own_word(wanted, expr)
                return (
                    self.call(expr, environment, wanted) if word is None else self.word(word, expr, environment, wanted)
                )
            case tree.Flow() | tree.Block():
                return self.flow(expr, environment)
            case tree.Binary():
                return self._binary(expr, environment)
            case tree.Unary():
                return self.negate(expr, self.evaluate(expr.operand, environment))
            case tree.Choose():
                return self.evaluate(self.chosen(expr, environment), environment, wanted)
            case tree.Tuple() | tree.List():
                items = [self.evaluate(item, environment) for item in expr.items]
                if INVALID in items:
                    return INVALID
                _check_size(items, expr.span)
                return items if isinstance(expr, tree.List) else tuple(items)
            case tree.ItemNode():
                return self._item(expr, environment, wanted)
            case tree.Dim():
                return expr.sizes
            case tree.String():
                return expr.value
            case tree.MapNode():
                return expr
            case tree.WithBlock():
                return self.call(expr, environment, wanted)

    def word(self, name: str, expr: tree.Expr, environment: E, wanted: Argument | None) -> Term:
        """Bind a word of an argument, such as `fan_in` or `cosine(floor = 1e-4)`; inner bare words become `str`."""
        declared = wanted.takes(name) if wanted is not None else ()
        anything = wanted is not None and wanted.type is ArgumentType.ANY
        if isinstance(expr, tree.Call):
            pairs = match(name, declared, expr.arguments, self.reports)
        elif anything or not declared:
            return Term(name)
        else:
            pairs = []
        bound = {argument.name for argument, _ in pairs}
        for argument in declared:
            if argument.name not in bound and isinstance(argument.default, Required):
                raise missing(name, argument, declared, expr.span, self.reports)
        args: list[Literal] = []
        options: list[tuple[str, Literal]] = []
        for argument, written in pairs:
            value = self.argument(Slot(argument, name, written.span, self.reports), written.value, environment)
            value = value.name if isinstance(value, Term) and not (value.args or value.options) else value
            if written.name is None:
                args.append(value)
            else:
                options.append((argument.name, value))
        return Term(name, tuple(args), tuple(options))

    def argument(self, slot: Slot, expr: tree.Expr, environment: E) -> Literal:
        """Evaluate what is written for an argument, and bring it into the argument's form."""
        return accept(slot, self.evaluate(expr, environment, slot.argument))

    def chosen(self, expr: tree.Choose, environment: E) -> tree.Expr:
        """Return the branch that a conditional takes; the other is not evaluated."""
        test = arithmetic.as_switch(self.evaluate(expr.test, environment), expr.test.span)
        return expr.then if test else expr.other

    def _binary(self, expr: tree.Binary, environment: E) -> object:
        left = self.evaluate(expr.left, environment)
        if expr.operator in ("and", "or"):
            if isinstance(left, Invalid):
                return INVALID
            first = arithmetic.as_switch(left, expr.left.span)
            if first == (expr.operator == "or"):
                return first
            right = self.evaluate(expr.right, environment)
            return INVALID if isinstance(right, Invalid) else arithmetic.as_switch(right, expr.right.span)
        right = self.evaluate(expr.right, environment)
        if isinstance(left, Invalid) or isinstance(right, Invalid):
            return INVALID
        return self.operate(expr, left, right, environment)

    def operate(self, expr: tree.Binary, left: object, right: object, environment: E) -> object:
        """Return what an operator makes of two values."""
        op, span = expr.operator, expr.span
        if isinstance(left, Deferred) or isinstance(right, Deferred):
            if op in _ORDER:
                raise Fault(
                    codes.COUNT_IN_SHAPE,
                    "nothing can be decided by `count` or `latents`",
                    span,
                    expected="values that are known before everything is placed",
                )
            return deferred(lambda a, b: arithmetic.binary(op, a, b, span), left, right)
        return arithmetic.binary(op, left, right, span)

    def negate(self, expr: tree.Unary, value: object) -> object:
        """Return what `-` or `not` makes of a value."""
        if isinstance(value, Invalid):
            return INVALID
        if expr.operator == "not":
            return not arithmetic.as_switch(value, expr.operand.span)
        if isinstance(value, Deferred):
            return deferred(lambda a: -a, value)
        return -arithmetic.as_number(value, expr.operand.span)

    def function(self, name: str, expr: tree.Call, environment: E) -> object:
        """Return the value of one of `arithmetic.FUNCTIONS`."""
        if any(a.name is not None for a in expr.arguments):
            raise Fault(codes.WRONG_ARGUMENTS, f"`{name}` takes no named arguments", expr.span)
        values = [self.evaluate(a.value, environment) for a in expr.arguments]
        if any(isinstance(v, Invalid) for v in values):
            return INVALID
        if any(isinstance(v, Deferred) for v in values):
            return deferred(lambda *now: arithmetic.function(name, now, expr.span), *values)
        return arithmetic.function(name, values, expr.span)

    def _item(self, expr: tree.ItemNode, environment: E, wanted: Argument | None) -> object:
        base = self.evaluate(expr.base, environment)
        key = self.evaluate(expr.index, environment)
        if isinstance(base, Invalid) or isinstance(key, Invalid):
            return INVALID
        if not isinstance(base, tree.MapNode):
            return self._entry(expr, base, key)
        other: tree.Expr | None = None
        for entry in base.entries:
            if entry.key is None:
                other = other or entry.value
            elif self.evaluate(entry.key, environment) == key:
                return self.evaluate(entry.value, environment, wanted)
        if other is None:
            raise Fault(
                codes.NO_SUCH_ITEM,
                f"no entry for {arithmetic.describe(key)}",
                expr.index.span,
                help="add the entry, or an `else:` entry for all others",
            )
        return self.evaluate(other, environment, wanted)

    def _entry(self, expr: tree.ItemNode, base: object, key: object) -> object:
        """Return the entry of a list or tuple at a position."""
        if not isinstance(base, list | tuple):
            raise Fault(
                codes.WRONG_KIND,
                "this has no entries",
                expr.base.span,
                arithmetic.describe(base),
                "a map, list or tuple",
            )
        position = arithmetic.as_integer(key, expr.index.span, "a position")
        if not 0 <= position < len(base):
            raise Fault(
                codes.NO_SUCH_ITEM,
                f"no entry {position}",
                expr.index.span,
                expected=f"a position from 0 to {len(base) - 1}",
            )
        entry: object = base[position]
        return entry


def own_word(argument: Argument | None, expr: tree.Expr) -> str | None:
    """Return the word that an expression is, bare or called, of those that an argument declares itself.

    These come before names. What may be anything knows words only as a last resort; `none` is a value like `yes`.
    """
    if argument is None or not argument.words or argument.type is ArgumentType.ANY:
        return None
    head = expr.function if isinstance(expr, tree.Call) else expr
    if isinstance(head, tree.Name) and head.id in argument.words and head.id not in KEYWORDS:
        return head.id
    return None


MOST_VALUES = 10_000  # of a list, those of the lists within it counted


def _check_size(items: Sequence[object], span: Span) -> None:
    """Refuse a list whose values, printed or compared, would take for ever; the lists within it are smaller."""
    todo: list[object] = [items]
    count = 0
    while todo:
        item = todo.pop()
        if isinstance(item, list | tuple):
            todo += item
            count += len(item)
        if count > MOST_VALUES:
            raise Fault(
                limits.LIST_TOO_LARGE,
                f"a list of more than {MOST_VALUES:,} values",
                span,
                "the values of the lists within it counted",
                f"at most {MOST_VALUES:,}",
                "a map, read with an index, needs no value for each place",
            )


def unknown(name: tree.Name, known: Iterable[str], wanted: Argument | None, places: str) -> Fault:
    """Return the fault of a name that means nothing here, with what is near."""
    words = wanted.words if wanted is not None and wanted.type is not ArgumentType.ANY else ()
    names = {*known, *words}
    near = name.id.lower() if name.id.lower() in names else nearest_word(name.id, names)
    few = words or (names if len(names) <= FEW else ())
    help = f"did you mean `{near}`?" if near is not None else did_you_mean(name.id, few) if few else ""
    expected = f"{places}, or one of {', '.join(f'`{w}`' for w in words)}" if words else places
    return Fault(
        name_codes.UNKNOWN_NAME,
        f"nothing is named `{name.id}` here",
        name.span,
        f"`{name.id}`",
        expected,
        help if name.id.lower() in names else habit(name.id, wanted.name if wanted is not None else "") or help,
    )


def circular(names: list[str], at: tree.Name) -> Fault:
    """Return the fault of a `let` that comes back to itself."""
    chain = " -> ".join(f"`{n}`" for n in names)
    return Fault(
        codes.CIRCULAR_LET,
        f"`{at.id}` is defined by itself",
        at.span,
        chain,
        "a value that does not need its own",
    )


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


def as_literal(value: object, span: Span) -> Literal:
    """Return a value as a literal: a list becomes a tuple.

    Raises:
        Fault: for a map by itself.
    """
    if isinstance(value, tree.MapNode):
        raise Fault(
            codes.NOT_CONSTANT,
            "a map is not a value by itself",
            span,
            "a map",
            "an entry of it, as in `w[8]`",
            "write which entry is meant",
        )
    if isinstance(value, list | tuple):
        return tuple(as_literal(v, span) for v in value)
    if value is None or isinstance(value, bool | int | float | str | Term):
        return value
    raise TypeError(f"no literal: {type(value).__name__}")
