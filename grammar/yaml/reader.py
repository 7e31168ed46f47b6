"""Read the YAML form: YAML's skeleton, leaves in the language's own expressions, the same tree."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, cast

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import check_text, check_version, parse
from hvdsl.grammar.text.tokens import Fragment
from hvdsl.grammar.yaml.nodes import Mapping, Node, Scalar, Sequence, compose

_KEYS = [
    "hv",
    "model",
    "title",
    "use",
    "needs",
    "extends",
    "let",
    "shared",
    "default",
    "data",
    "cells",
    "groups",
    "encoder",
    "decoder",
    "likelihood",
    "objective",
    "priors",
    "train",
    "evaluate",
    "sample",
    "variants",
]


def read_yaml(source: Source) -> tree.Spec:
    """Return the tree of a whole file in the YAML form. Raises `SpecError` with every mistake found."""
    diagnostics = Diagnostics()
    check_text(source, diagnostics, yaml=True)
    root = compose(source, diagnostics)
    items: tuple[tree.SpecItem, ...] = ()
    if root is not None:
        items = tuple(_Reader(source, diagnostics).items(root))
    diagnostics.stop_if_failed()
    spec = tree.Spec(items, span=Span(source, 0, len(source.text)))
    check_version(spec, diagnostics)
    diagnostics.stop_if_failed()
    return spec


class _Reader:
    """Skeleton to tree. What cannot be read is reported and left out."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics

    # -- leaves -------------------------------------------------------------------------------------------

    def _wrong(self, node: Node, found: str, expected: str, help_: str = "") -> None:
        self.diagnostics.add(
            Diagnostic(codes.BAD_YAML, f"{found} cannot stand here", node.span, found, expected, help_)
        )

    def _parse(self, node: Node, start: str) -> Any:
        """Return what `start` of the grammar makes of a scalar, None after an error."""
        if not isinstance(node, Scalar):
            self._wrong(node, "a list" if isinstance(node, Sequence) else "a mapping", "an expression")
            return None
        before = len(list(self.diagnostics))
        if not node.text.strip() and start != "statements":
            self._wrong(node, "nothing", "an expression", "write the value after the `:`")
            return None
        value = parse(node.fragment, start, self.diagnostics)
        return value if len(list(self.diagnostics)) == before else None

    def _expression(self, node: Node) -> tree.Expr | None:
        return cast("tree.Expr | None", self._parse(node, "expression"))

    def _name(self, node: Node) -> tree.Name | None:
        value = self._expression(node)
        if value is not None and not isinstance(value, tree.Name):
            self._wrong(node, f"`{value.span.text[:30]}`", "a name")
            return None
        return value

    def _string(self, node: Node) -> tree.String | None:
        if not isinstance(node, Scalar):
            self._wrong(node, "a list" if isinstance(node, Sequence) else "a mapping", "text")
            return None
        if '"' in node.text or "\n" in node.text:
            self._wrong(node, 'a string with a `"` or a line break', 'text on one line without `"`')
            return None
        return tree.String(node.text, span=node.span)

    def _entries(self, node: Node, what: str) -> Iterator[tuple[Scalar, Node]]:
        if isinstance(node, Mapping):
            yield from node.entries
        elif not (isinstance(node, Scalar) and not node.text):
            self._wrong(node, "text" if isinstance(node, Scalar) else "a list", f"a mapping of {what}")

    # -- items --------------------------------------------------------------------------------------------

    def items(self, root: Node) -> Iterator[tree.SpecItem]:
        for key, value in self._entries(root, "the spec's items"):
            yield from self._item(key, value)

    def _item(self, key: Scalar, value: Node) -> Iterator[tree.SpecItem]:
        kind, _, rest = key.text.partition(" ")
        span = key.span.to(value.span)
        match kind:
            case "hv" | "model" | "title" | "use" | "extends" | "needs":
                yield from self._header(kind, value, span)
            case "let" | "shared" if not rest:
                for name_node, node in self._entries(value, "names and values"):
                    yield from self._definition(kind, name_node, node)
            case "default" if not rest:
                for name_node, node in self._entries(value, "operations and settings"):
                    yield from self._default(name_node, node)
            case "likelihood":
                if expression := self._expression(value):
                    yield tree.LikelihoodNode(expression, span=span)
            case "encoder" | "decoder":
                yield tree.Section(cast(Any, kind), tuple(self._rows(value)), span=span)
            case "data" | "train" | "objective" | "evaluate" | "sample" if not rest or kind in ("data", "train"):
                yield from self._settings_item(kind, key, value)
            case "cells" | "groups" | "priors" | "variants":
                yield from self._bodies(kind, value)
            case _:
                near = get_close_matches(key.text, _KEYS, 1)
                help_ = f"did you mean `{near[0]}`?" if near else ""
                message = f"`{key.text[:40]}` is not something that a spec is made of"
                expected = ", ".join(f"`{word}`" for word in _KEYS)
                self.diagnostics.add(Diagnostic(codes.UNKNOWN_ITEM, message, key.span, key.text[:40], expected, help_))

    def _header(self, kind: str, value: Node, span: Span) -> Iterator[tree.SpecItem]:
        """What stands before the definitions of a file: its version, its names, the files that it takes from."""
        match kind:
            case "hv":
                number = self._expression(value)
                if isinstance(number, tree.Number):
                    yield tree.Version(number, span=span)
                elif number is not None:
                    self._wrong(value, f"`{number.span.text[:30]}`", "a version number")
            case "model":
                if name := self._name(value):
                    yield tree.HeaderNode("model", name, span=span)
            case "needs":
                for node in value.items if isinstance(value, Sequence) else (value,):
                    if needed := self._parse(node, "needed"):
                        yield tree.NeedsNode(*needed, span=node.span)
            case _:
                for node in value.items if isinstance(value, Sequence) else (value,):
                    if kind == "use" and isinstance(node, Mapping):
                        yield from self._used_as(node)
                    elif text := self._string(node):
                        yield tree.HeaderNode(cast(Any, kind), text, span=node.span)

    def _bodies(self, kind: str, value: Node) -> Iterator[tree.SpecItem]:
        """The entries of `cells`, `groups`, `priors` or `variants`: a head, and what stands behind it."""
        for head, body in self._entries(value, "recipes" if kind in ("cells", "groups") else kind):
            if kind in ("cells", "groups"):
                yield from self._recipe(kind[:-1], head, body)
            elif kind == "priors":
                if parts := self._parse(head, "prior_head"):
                    yield tree.Prior(parts[0], parts[1], self._block(body), span=head.span.to(body.span))
            elif name := self._name(head):
                yield tree.Variant(name, tuple(self.items(body)), span=head.span.to(body.span))

    def _used_as(self, node: Mapping) -> Iterator[tree.HeaderNode]:
        """`{file: cells.hv, as: cells}`"""
        parts = {key.text: value for key, value in node.entries}
        if parts.keys() != {"file", "as"}:
            self._wrong(node, "a mapping", "the name of a file, or `{file: cells.hv, as: cells}`")
            return
        text, alias = self._string(parts["file"]), self._name(parts["as"])
        if text and alias:
            yield tree.HeaderNode("use", text, alias, span=node.span)

    def _definition(self, kind: str, key: Node, value: Node) -> Iterator[tree.Let | tree.Shared]:
        name, expression = self._name(key), self._expression(value)
        if name and expression:
            make = tree.Let if kind == "let" else tree.Shared
            yield make(name, expression, span=key.span.to(value.span))

    def _default(self, key: Node, value: Node) -> Iterator[tree.Default]:
        if name := self._name(key):
            yield tree.Default(name, tuple(self._settings(value)), span=key.span.to(value.span))

    def _settings(self, node: Node) -> Iterator[tree.Setting]:
        for key, value in self._entries(node, "settings"):
            if (tail := _tail(key)) and key.text.split()[0] == "given":
                yield from self._condition(tail, value)
                continue
            name, expression = self._name(key), self._expression(value)
            if name and expression:
                yield tree.Setting(name, expression, span=key.span.to(value.span))

    def _condition(self, key: Scalar, value: Node) -> Iterator[tree.ConditionNode]:
        """`given label: 10 classes { drop = 0.1 }`: what stands after `=` in the text form."""
        name, parts = self._name(key), self._parse(value, "condition_head")
        if name and parts:
            yield tree.ConditionNode(name, *parts, span=key.span.to(value.span))

    def _settings_item(self, kind: str, key: Scalar, value: Node) -> Iterator[tree.SettingsNode]:
        settings = tuple(self._settings(value))
        name: tree.Expr | None = None
        if tail := _tail(key):
            name = self._expression(tail)
        elif kind == "data":
            name = next((s.value for s in settings if s.key.id == "source"), None)
            settings = tuple(s for s in settings if s.value is not name)
        if (
            isinstance(name, tree.Name)
            or (kind == "data" and isinstance(name, tree.String))
            or (not name and kind != "data")
        ):
            yield tree.SettingsNode(cast(Any, kind), cast(Any, name), settings, span=key.span.to(value.span))
        elif not self.diagnostics.failed:
            self._wrong(
                key,
                f"`{key.text[:30]}`",
                "`data` with its `source`, or `data NAME`" if kind == "data" else "a name",
            )

    def _recipe(self, kind: str, head: Scalar, body: Node) -> Iterator[tree.RecipeNode]:
        if parts := self._parse(head, "recipe_head"):
            yield tree.RecipeNode(cast(Any, kind), parts[0], parts[1], self._block(body), span=head.span.to(body.span))

    def _rows(self, node: Node) -> Iterator[tree.Row | tree.Let | tree.Shared | tree.Default]:
        for key, value in self._entries(node, "rows"):
            kind, _, _ = key.text.partition(" ")
            tail = _tail(key)
            if kind in ("let", "shared") and tail:
                yield from self._definition(kind, tail, value)
            elif kind == "default" and tail:
                yield from self._default(tail, value)
            else:
                label = self._expression(key)
                content = self._block(value) if isinstance(value, Sequence) else self._expression(value)
                if label and content:
                    yield tree.Row(label, content, span=key.span.to(value.span))

    def _block(self, node: Node) -> tree.Block:
        statements: list[tree.Statement] = []
        for part in node.items if isinstance(node, Sequence) else (node,):
            if block := cast("tree.Block | None", self._parse(part, "statements")):
                statements += block.statements
        return tree.Block(tuple(statements), span=node.span)


def _tail(key: Scalar) -> Scalar | None:
    """Return what follows the first word of a key."""
    head, _, rest = key.text.partition(" ")
    if not rest.strip():
        return None
    places = (key.fragment.places or ())[len(head) + 1 :]
    return Scalar(Fragment(key.span.source, rest, places), Span(key.span.source, places[0], key.span.end))
