"""The actions of `hv.lark`: build the tree, check left sides, hand comments to the nodes they belong to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, cast

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics
from hvdsl.grammar.source import Span
from hvdsl.grammar.text.tokens import Token, Tokens

_ConditionHead = tuple[tree.Expr, bool, tuple[tree.Setting, ...], tuple[str, ...]]


class TreeBuilder:
    """One method per action of the grammar: `(start, end, *parts)` to a node. Parts are tokens and nodes."""

    def __init__(self, tokens: Tokens, diagnostics: Diagnostics) -> None:
        self.fragment = tokens.fragment
        self.trivia = tokens.trivia
        self.diagnostics = diagnostics
        self._leading = sorted(self.trivia.leading)
        self._beside = sorted(self.trivia.beside)

    def _span(self, start: int, end: int) -> Span:
        return self.fragment.span(start, end)

    def _name(self, token: Token) -> tree.Name:
        return tree.Name(token.text, span=self._span(token.start, token.end))

    def _text(self, token: Token) -> tree.String:
        return tree.String(token.text[1:-1], span=self._span(token.start, token.end))

    # -- comments -----------------------------------------------------------------------------------------

    def _commented(self, start: int, end: int) -> dict[str, Any]:
        """Return span and comments of a node, once the nodes in it have taken theirs.

        What is left inside it would be lost when it is printed: the first one that stands on its
        first line goes behind it, the
        others go before it.
        """
        before = list(self.trivia.leading.pop(start, ()))
        after = self.trivia.beside.pop(end, "")
        first_line = self.fragment.text.find("\n", start)
        for place in self._beside[bisect_left(self._beside, start) : bisect_left(self._beside, end)]:
            if comment := self.trivia.beside.pop(place, ""):
                if place <= first_line or first_line < 0:
                    comment, after = after, comment
                if comment:
                    before.append(comment)
        for place in self._leading[bisect_left(self._leading, start + 1) : bisect_left(self._leading, end)]:
            before += [line for line in self.trivia.leading.pop(place, ()) if line]
        return {"span": self._span(start, end), "before": tuple(before), "after": after}

    def _trailing(self, end: int) -> tuple[str, ...]:
        """Return the comments before the closing brace that ends at `end`."""
        return _stripped(self.trivia.leading.pop(end - 1, ()))

    # -- items --------------------------------------------------------------------------------------------

    def spec(self, start: int, end: int, *items: tree.SpecItem) -> tree.Spec:
        length = len(self.fragment.text)
        trailing = _stripped(self.trivia.leading.pop(length, ()))
        return tree.Spec(items, trailing, span=self._span(0, length))

    def statements(self, start: int, end: int, *statements: tree.Statement) -> tree.Block:
        length = len(self.fragment.text)
        trailing = _stripped(self.trivia.leading.pop(length, ()))
        return tree.Block(statements, trailing, span=self._span(start, end))

    def version(self, start: int, end: int, number: Token) -> tree.Version:
        node = self.number(number.start, number.end, number)
        return tree.Version(node, **self._commented(start, end))

    def header(self, start: int, end: int, kind: Token, value: Token) -> tree.HeaderNode:
        node = self._name(value) if kind.text == "model" else self._text(value)
        return tree.HeaderNode(cast(Any, kind.text), node, **self._commented(start, end))

    def used_as(self, start: int, end: int, kind: Token, file: Token, alias: Token) -> tree.HeaderNode:
        return tree.HeaderNode("use", self._text(file), self._name(alias), **self._commented(start, end))

    def needed_names(self, start: int, end: int, *names: Token) -> tuple[tuple[tree.Name, ...], tree.Name | None]:
        return tuple(map(self._name, names)), None

    def needed_default(
        self, start: int, end: int, operation: Token, *names: Token
    ) -> tuple[tuple[tree.Name, ...], tree.Name | None]:
        return tuple(map(self._name, names)), self._name(operation)

    def needs(self, start: int, end: int, needed: tuple[tuple[tree.Name, ...], tree.Name | None]) -> tree.NeedsNode:
        return tree.NeedsNode(*needed, **self._commented(start, end))

    def let(self, start: int, end: int, name: Token, value: tree.Expr) -> tree.Let:
        return tree.Let(self._name(name), value, **self._commented(start, end))

    def shared(self, start: int, end: int, name: Token, value: tree.Expr) -> tree.Shared:
        return tree.Shared(self._name(name), value, **self._commented(start, end))

    def default(self, start: int, end: int, name: Token, settings: Sequence[tree.Setting]) -> tree.Default:
        trailing = self._trailing(end)
        return tree.Default(self._name(name), tuple(settings), trailing, **self._commented(start, end))

    def settings(self, start: int, end: int, *settings: tree.Setting) -> Sequence[tree.Setting]:
        return settings

    def setting(self, start: int, end: int, name: Token, value: tree.Expr) -> tree.Setting:
        return tree.Setting(self._name(name), value, **self._commented(start, end))

    def numbers(self, start: int, end: int, size: tree.Expr, *rest: Sequence[tree.Setting]) -> _ConditionHead:
        return self._condition_head(end, size, rest, classes=False)

    def classes(self, start: int, end: int, size: tree.Expr, *rest: Sequence[tree.Setting]) -> _ConditionHead:
        return self._condition_head(end, size, rest, classes=True)

    def _condition_head(
        self, end: int, size: tree.Expr, rest: Sequence[Sequence[tree.Setting]], *, classes: bool
    ) -> _ConditionHead:
        return size, classes, tuple(rest[0]) if rest else (), self._trailing(end) if rest else ()

    def condition(self, start: int, end: int, name: Token, head: _ConditionHead) -> tree.ConditionNode:
        return tree.ConditionNode(self._name(name), *head, **self._commented(start, end))

    def settings_item(self, start: int, end: int, kind: Token, *rest: Any) -> tree.SettingsNode:
        name: tree.Name | tree.String | None = None
        if len(rest) == 2:
            name = self._text(rest[0]) if rest[0].type == "STRING" else self._name(rest[0])
        trailing = self._trailing(end)
        return tree.SettingsNode(cast(Any, kind.text), name, tuple(rest[-1]), trailing, **self._commented(start, end))

    def params(self, start: int, end: int, *parameters: tree.ParameterNode) -> Sequence[tree.ParameterNode]:
        return parameters

    def param(self, start: int, end: int, name: Token, default: tree.Expr | None = None) -> tree.ParameterNode:
        return tree.ParameterNode(self._name(name), default, span=self._span(start, end))

    def recipe(self, start: int, end: int, kind: Token, name: Token, *rest: Any) -> tree.RecipeNode:
        parameters = tuple(rest[0]) if len(rest) == 2 else ()
        return tree.RecipeNode(
            cast(Any, kind.text), self._name(name), parameters, rest[-1], **self._commented(start, end)
        )

    def recipe_head(
        self, start: int, end: int, name: Token, parameters: Sequence[tree.ParameterNode] = ()
    ) -> tuple[tree.Name, tuple[tree.ParameterNode, ...]]:
        return self._name(name), tuple(parameters)

    def given(self, start: int, end: int, *names: Token) -> Sequence[tree.Name]:
        return [self._name(name) for name in names]

    def prior(self, start: int, end: int, name: Token, *rest: Any) -> tree.Prior:
        given = tuple(rest[0]) if len(rest) == 2 else ()
        return tree.Prior(self._name(name), given, rest[-1], **self._commented(start, end))

    def prior_head(
        self, start: int, end: int, name: Token, given: Sequence[tree.Name] = ()
    ) -> tuple[tree.Name, tuple[tree.Name, ...]]:
        return self._name(name), tuple(given)

    def rows(self, start: int, end: int, *rows: Any) -> Sequence[Any]:
        return rows

    def row(self, start: int, end: int, label: tree.Expr, value: tree.Expr) -> tree.Row:
        return tree.Row(label, value, **self._commented(start, end))

    def section(self, start: int, end: int, kind: Token, rows: Sequence[Any]) -> tree.Section:
        trailing = self._trailing(end)
        return tree.Section(cast(Any, kind.text), tuple(rows), trailing, **self._commented(start, end))

    def likelihood(self, start: int, end: int, value: tree.Expr) -> tree.LikelihoodNode:
        return tree.LikelihoodNode(value, **self._commented(start, end))

    def variant(self, start: int, end: int, name: Token, *items: tree.SpecItem) -> tree.Variant:
        trailing = self._trailing(end)
        return tree.Variant(self._name(name), items, trailing, **self._commented(start, end))

    # -- statements ---------------------------------------------------------------------------------------

    def block(self, start: int, end: int, *statements: tree.Statement) -> tree.Block:
        return tree.Block(statements, self._trailing(end), span=self._span(start, end))

    def bare(self, start: int, end: int, value: tree.Expr) -> tree.Bare:
        if self.fragment.text[start] == "-":
            message = "a statement begins with `-`"
            help_ = "end the line before with `-` to go on with it, or put this in parentheses"
            expected = "a name, a value or a step"
            self.diagnostics.add(
                Diagnostic(codes.LEADING_OPERATOR, message, self._span(start, end), "`-`", expected, help_)
            )
        return tree.Bare(value, **self._commented(start, end))

    def bind(self, start: int, end: int, targets: tree.Expr, value: tree.Expr) -> tree.Bind:
        return tree.Bind(self._targets(targets), value, **self._commented(start, end))

    def latent_settings(
        self, start: int, end: int, *settings: tree.Setting
    ) -> tuple[tuple[tree.Setting, ...], tuple[str, ...]]:
        return settings, self._trailing(end)

    def latent(self, start: int, end: int, names: tree.Expr, prior: tree.Expr, *rest: Any) -> tree.Latent:
        posterior = next((part for part in rest if isinstance(part, tree.TreeNode)), None)
        settings, trailing = next((part for part in rest if not isinstance(part, tree.TreeNode)), ((), ()))
        latents = self._latents(names)
        return tree.Latent(
            latents, prior, cast("tree.Expr | None", posterior), settings, trailing, **self._commented(start, end)
        )

    def drawn(self, start: int, end: int, names: tree.Expr, posterior: tree.Expr) -> tree.Latent:
        return tree.Latent(self._latents(names), None, posterior, **self._commented(start, end))

    def _targets(self, left: tree.Expr) -> tuple[tree.Name | tree.Call, ...]:
        items = left.items if isinstance(left, tree.Tuple) else (left,)
        if len(items) == 1 and _is_tap(items[0]):
            return cast(tuple[tree.Call], items)
        expected = "a name, names with commas between them, or `tap(name)`"
        return self._names(items, "=", expected, "compare with `==`; name a part of a flow on a line of its own")

    def _latents(self, left: tree.Expr) -> tuple[tree.Name, ...]:
        items = left.items if isinstance(left, tree.Tuple) else (left,)
        return self._names(items, "~", "a name, or names with commas between them", "name the latent: `z ~ normal(p)`")

    def _names(self, items: Sequence[tree.Expr], sign: str, expected: str, help_: str) -> tuple[tree.Name, ...]:
        for item in items:
            if not isinstance(item, tree.Name) or "." in item.id:
                shown = item.span.text if len(item.span.text) <= 30 else f"{item.span.text[:27]}…"
                message = f"`{shown}` cannot stand left of `{sign}`"
                self.diagnostics.add(Diagnostic(codes.BAD_TARGET, message, item.span, f"`{shown}`", expected, help_))
        return tuple(item for item in items if isinstance(item, tree.Name))

    # -- expressions --------------------------------------------------------------------------------------

    def tuple(self, start: int, end: int, *items: tree.Expr) -> tree.Tuple:
        return tree.Tuple(items, span=self._span(start, end))

    def flow(self, start: int, end: int, *steps: tree.Expr) -> tree.Flow:
        return tree.Flow(steps, span=self._span(start, end))

    def choose(self, start: int, end: int, then: tree.Expr, test: tree.Expr, other: tree.Expr) -> tree.Choose:
        return tree.Choose(then, test, other, span=self._span(start, end))

    def binary(self, start: int, end: int, left: tree.Expr, operator: Token, right: tree.Expr) -> tree.Binary:
        return tree.Binary(
            cast(Any, _OPERATOR.get(operator.type, operator.text)), left, right, span=self._span(start, end)
        )

    def unary(self, start: int, end: int, operator: Token, operand: tree.Expr) -> tree.Unary:
        return tree.Unary("-" if operator.type == "MINUS" else "not", operand, span=self._span(start, end))

    def call(self, start: int, end: int, function: tree.Expr, *arguments: Any) -> tree.Call:
        return tree.Call(function, arguments, span=self._span(start, end))

    def positional(self, start: int, end: int, value: tree.Expr) -> tree.ArgumentNode:
        return tree.ArgumentNode(None, value, span=self._span(start, end))

    def named(self, start: int, end: int, name: Token, value: tree.Expr) -> tree.ArgumentNode:
        return tree.ArgumentNode(name.text, value, span=self._span(start, end))

    def index(self, start: int, end: int, base: tree.Expr, index: tree.Expr) -> tree.ItemNode:
        return tree.ItemNode(base, index, span=self._span(start, end))

    def with_block(self, start: int, end: int, head: tree.Expr, block: tree.Block) -> tree.WithBlock:
        return tree.WithBlock(head, block, span=self._span(start, end))

    def number(self, start: int, end: int, token: Token) -> tree.Number:
        return tree.Number(token.text, span=self._span(start, end))

    def dim(self, start: int, end: int, token: Token) -> tree.Dim:
        return tree.Dim(tuple(int(size) for size in token.text.split("x")), span=self._span(start, end))

    def string(self, start: int, end: int, token: Token) -> tree.String:
        return self._text(token)

    def name(self, start: int, end: int, token: Token) -> tree.Name:
        return self._name(token)

    def qualified(self, start: int, end: int, file: Token, name: Token) -> tree.Name:
        return tree.Name(f"{file.text}.{name.text}", span=self._span(start, end))

    def list(self, start: int, end: int, *entries: tree.Expr | tree.MapEntry) -> tree.List | tree.MapNode:
        pairs = [entry for entry in entries if isinstance(entry, tree.MapEntry)]
        if not pairs:
            return tree.List(cast("tuple[tree.Expr, ...]", entries), span=self._span(start, end))
        for entry in entries:
            if not isinstance(entry, tree.MapEntry):
                message = "an entry without a key stands in a map"
                help_ = "give every entry a key, `[32: 4, else: 8]`, or none"
                self.diagnostics.add(Diagnostic(codes.MIXED_MAP, message, entry.span, "a value", "`key: value`", help_))
        return tree.MapNode((*pairs,), span=self._span(start, end))

    def pair(self, start: int, end: int, key: tree.Expr, value: tree.Expr) -> tree.MapEntry:
        return tree.MapEntry(key, value, span=self._span(start, end))

    def other(self, start: int, end: int, value: tree.Expr) -> tree.MapEntry:
        return tree.MapEntry(None, value, span=self._span(start, end))


# The tree's operator for what another language's spelling was read as.
_OPERATOR = {"AND": "and", "OR": "or", "POWER": "**", "TIMES": "*"}


def _is_tap(node: tree.Expr) -> bool:
    if not (isinstance(node, tree.Call) and isinstance(node.function, tree.Name) and node.function.id == "tap"):
        return False
    return len(node.arguments) == 1 and isinstance(node.arguments[0].value, tree.Name)


def _stripped(lines: Sequence[str]) -> tuple[str, ...]:
    """Drop the blank lines at the end."""
    kept = list(lines)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)
