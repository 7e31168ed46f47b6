"""What an editor wants to know of a spec: mistakes, what a name is, where it is defined, what may stand here.

Pure functions of a text and a place in it (a character offset); the language server beside this module speaks for them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hvdsl.compiler.assembly import declared
from hvdsl.compiler.assembly.declared import DOCS
from hvdsl.compiler.assembly.files import find
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS
from hvdsl.compiler.catalogue.reference import operation_signature
from hvdsl.compiler.catalogue.table import Argument, OperationKind, Required
from hvdsl.compiler.elaboration.environment import CONTEXT_NAMES
from hvdsl.compiler.graph import GraphScope
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check
from hvdsl.compiler.setting_words import Settings
from hvdsl.compiler.settings import (
    LABEL,
    ConditionSettings,
    Data,
    Evaluate,
    LatentSettings,
    ObjectiveSettings,
    SampleSettings,
    Train,
)
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.files import format_text, read
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import read_text
from hvdsl.grammar.tree import Name

SECTIONS: dict[str, type[Settings]] = {
    "data": Data,
    "objective": ObjectiveSettings,
    "train": Train,
    "evaluate": Evaluate,
    "sample": SampleSettings,
}
BLOCKS: dict[str, type[Settings]] = {**SECTIONS, "given": ConditionSettings, "latent": LatentSettings}  # inside others
CONTEXT = {
    "channels": "channels of the tensor that entered; `channels(t)` those of another",
    "res": "height of the tensor that entered; in a row its label; `res(t)` that of another",
    "height": "of the tensor that entered",
    "width_px": "width of the tensor that entered, in pixels",
    "index": "instances of this recipe placed before this one in the section; in a repeat the turn, from 0",
    "count": "instances of this recipe in the section",
    "latents": "latent groups of the model",
    "logits": "channels that the likelihood needs",
    LABEL: "the class of the image, one-hot; `data { classes = 10 }` declares it",
}
ITEMS = (
    *("model", "title", "use", "extends", "let", "shared", "default", "cell", "group", "encoder", "decoder"),
    *("likelihood", "prior", "variant", *SECTIONS),
)
USES = 30  # levels of `use` that definitions are followed through
_WORD = re.compile(r"[A-Za-z_]\w*")
_HIDDEN = re.compile(r'#[^\n]*|"[^"\n]*"')
_NEAR = re.compile(r"did you mean `([^`]+)`")


@dataclass(frozen=True, slots=True)
class Definition:
    """A name, what it names, and where."""

    name: str
    kind: str  # cell, group, let, shared, prior, variant, condition, parameter, binding, latent
    span: Span
    text: str  # the line that defines it


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that may stand at a place, and what is said of it."""

    name: str
    kind: str
    detail: str = ""
    doc: str = ""


class Document:
    """A spec as it stands in an editor, whole or half written."""

    def __init__(self, text: str, path: Path) -> None:
        self.source, self.path = Source(str(path), text), path

    @cached_property
    def tree(self) -> tree.Spec | None:
        """The syntax tree; None while the text cannot be read."""
        try:
            return read_text(self.source)
        except SpecError:
            return None

    @cached_property
    def checked(self) -> tuple[Model | None, tuple[Diagnostic, ...]]:
        """The model, if there is one, and everything that is wrong or questionable. A file of recipes is only read."""
        try:
            spec = read_text(self.source)
            if not any(isinstance(item, tree.HeaderNode) and item.kind in ("model", "extends") for item in spec.items):
                return None, ()
            model = check(self.source, base=self.path.parent)
        except SpecError as error:
            return None, error.diagnostics
        except OSError as error:
            return None, (_unreadable(error, self.source),)
        return model, model.warnings

    def word(self, offset: int) -> Span | None:
        """The name at a place, if it is one: not in a comment or a string."""
        text = self.source.text
        if any(m.start() < offset < m.end() for m in _HIDDEN.finditer(text)):
            return None
        words = (m for m in _WORD.finditer(text) if m.start() <= offset <= m.end())
        return next((Span(self.source, m.start(), m.end()) for m in words), None)

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """Everything that the file itself defines, in order."""
        return () if self.tree is None else tuple(_definitions(self.tree))

    @cached_property
    def _all_names(self) -> tuple[Name, ...]:
        return () if self.tree is None else tuple(_names(self.tree))

    def definition(self, offset: int) -> Definition | None:
        """Where the name at a place is defined: in the recipe around it, the file, or the files that it uses."""
        span = self.word(offset)
        if span is None or self.tree is None:
            return None
        found = [d for d in self.definitions if d.name == span.text]
        local = [d for d in found if d.kind in _LOCAL and self._same_recipe(d.span.start, offset)]
        top = [d for d in found if d.kind not in _LOCAL]
        if local or top:
            return (local or top)[0]
        return next(
            (d for used in _used(self.tree, self.path) for d in _definitions(used) if d.name == span.text), None
        )

    def occurrences(self, offset: int) -> list[Span]:
        """Every place of a name that this file defines, its definition included: what a rename changes."""
        definition = self.definition(offset)
        if definition is None or definition.span.source is not self.source or self.tree is None:
            return []
        names = [n.span for n in self._all_names if n.id == definition.name]
        if definition.kind in _LOCAL:
            return [s for s in names if self._same_recipe(s.start, definition.span.start)]
        hidden = [d.span.start for d in self.definitions if d.kind in _LOCAL and d.name == definition.name]
        return [s for s in names if not any(self._same_recipe(start, s.start) for start in hidden)]

    def hover(self, offset: int) -> str | None:
        """What is known of the name at a place, as Markdown."""
        span = self.word(offset)
        if span is None:
            return None
        name, section = span.text, self.section(offset)
        if section is not None and (key := _keys(section).get(name)) is not None:
            return f"```hv\n{section} {{ {name} = … }}\n```\n{_says(key)}"
        definition = self.definition(offset)
        if definition is not None:
            return f"```hv\n{definition.text}\n```\n{self._sizes(definition)}".rstrip()
        if name in OPERATIONS and OPERATIONS[name].kind is not OperationKind.INTERNAL:
            operation = OPERATIONS[name]
            rows = "".join(f"\n- `{a.name}`: {_says(a)}" for a in operation.arguments)
            return f"```hv\n{operation_signature(operation)}\n```\n{operation.summary}\n{rows}"
        if name in LIKELIHOODS:
            return f"likelihood: {LIKELIHOODS[name].summary}"
        return f"`{name}`: {CONTEXT[name]}" if name in CONTEXT else None

    def completions(self, offset: int) -> list[Choice]:
        """What may stand at a place: keys of a settings section, or names and operations."""
        section = self.section(offset)
        if section is not None:
            keys = _keys(section)
            return [Choice(name, "setting", _default(key), _says(key)) for name, key in keys.items()]
        if self._depth(offset) == 0:
            items = [Choice(word, "keyword") for word in ITEMS]
            return items + [Choice(name, "likelihood", doc=entry.summary) for name, entry in LIKELIHOODS.items()]
        own = {d.name: d for d in self.definitions if d.kind not in _LOCAL or self._same_recipe(d.span.start, offset)}
        files = _used(self.tree, self.path) if self.tree else ()
        used = {d.name: d for file in files for d in _definitions(file) if d.kind not in _LOCAL}
        names = [Choice(d.name, d.kind, d.text) for d in {**used, **own}.values() if d.kind not in ("variant", "prior")]
        public = (o for o in OPERATIONS.values() if o.kind is not OperationKind.INTERNAL)
        operations = [Choice(o.name, "operation", operation_signature(o), o.summary) for o in public]
        return [*names, *operations, *(Choice(name, "context", doc=CONTEXT[name]) for name in sorted(CONTEXT_NAMES))]

    def formatted(self) -> str | None:
        """The canonical text; None while it cannot be read."""
        try:
            return format_text(self.source)
        except SpecError:
            return None

    def repairs(self) -> Iterator[tuple[Diagnostic, Span, str]]:
        """What a diagnostic's help proposes to write in the place that it points at."""
        for diagnostic in dict.fromkeys(self.checked[1]):
            near = _NEAR.search(diagnostic.help)
            span = diagnostic.span
            if near and span is not None and span.source.name == self.source.name and _WORD.fullmatch(span.text):
                yield diagnostic, span, near.group(1)

    def section(self, offset: int) -> str | None:
        """The kind of the block of settings around a place, if there is one and no value is being written."""
        text = _HIDDEN.sub(lambda m: " " * len(m.group()), self.source.text[:offset])
        depth = 0
        for i in range(len(text) - 1, -1, -1):
            if text[i] in "})]":
                depth += 1
            elif text[i] in "{([":
                if depth == 0:
                    line = re.split(r"[\n,{]", text[i:])[-1]
                    return _block(text[:i]) if text[i] == "{" and "=" not in line else None
                depth -= 1
        return None

    def _depth(self, offset: int) -> int:
        text = _HIDDEN.sub("", self.source.text[:offset])
        return text.count("{") - text.count("}")

    def _same_recipe(self, a: int, b: int) -> bool:
        """Whether two places are inside the same recipe, row section or prior."""
        items = [] if self.tree is None else self.tree.items
        return any(item.span.start <= a < item.span.end and item.span.start <= b <= item.span.end for item in items)

    def _sizes(self, definition: Definition) -> str:
        """How often a recipe is used, how large it is, and what flows in and out of its first use."""
        model, _ = self.checked
        if model is None or definition.kind not in ("cell", "group", "shared"):
            return ""
        graphs = (model.graph, *model.priors.values())
        scopes = [(graph, scope) for graph in graphs for scope in _scopes(graph.root)]
        uses = [(graph, scope) for graph, scope in scopes if _is_use(scope, definition)]
        if not uses:
            return "not used"
        graph, first = uses[0]
        nodes = list(first.nodes())
        inside = {node.index for node in nodes}
        entering = next((e for node in nodes for e in node.inputs if e.node not in inside), None)
        counts = {sum(p.size for n in scope.nodes() for p in n.parameters if p.trainable) for _, scope in uses}
        each = f"{min(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}"
        ends = (*([graph.shape(entering)] if entering else []), nodes[-1].shapes[0])
        shapes = " → ".join("x".join(map(str, end)) for end in ends)
        return f"{len(uses)} use{'' if len(uses) == 1 else 's'}, {each} parameters each; `{first.path}`: {shapes}"


_LOCAL = ("parameter", "binding", "latent")


def _definitions(spec: tree.Spec) -> Iterator[Definition]:
    for item in spec.items:
        yield from _defined(item)


def _defined(item: tree.SpecItem) -> Iterator[Definition]:
    if isinstance(item, tree.RecipeNode):
        yield _of(item.name, item.kind)
        yield from (_of(parameter.name, "parameter") for parameter in item.parameters)
        yield from _bound(item.body)
    elif isinstance(item, tree.Prior):
        yield _of(item.name, "prior")
        yield from _bound(item.body)
    elif isinstance(item, tree.Variant):
        yield _of(item.name, "variant")
        for inner in item.items:
            yield from _defined(inner)
    elif isinstance(item, tree.Section):
        yield from _bound(item)
    elif isinstance(item, tree.SettingsNode):
        yield from (
            _of(setting.key, "condition") for setting in item.settings if isinstance(setting, tree.ConditionNode)
        )
    elif isinstance(item, tree.Let | tree.Shared):
        yield _of(item.name, type(item).__name__.lower())


def _bound(node: object) -> Iterator[Definition]:
    """What the statements inside a body name."""
    for inner in _walk(node):
        if isinstance(inner, tree.Bind):
            yield from (_of(t, "binding") for t in inner.targets if isinstance(t, tree.Name) and t.id not in ("x", "_"))
        elif isinstance(inner, tree.Latent):
            yield from (_of(name, "latent") for name in inner.names)
        elif isinstance(inner, tree.Let | tree.Shared):
            yield _of(inner.name, "binding")


def _of(name: tree.Name, kind: str) -> Definition:
    return Definition(name.id, kind, name.span, name.span.source.line(name.span.line).strip())


def _walk(node: object) -> Iterator[object]:
    """A node and everything inside it."""
    if isinstance(node, tuple):
        for inner in node:
            yield from _walk(inner)
    elif dataclasses.is_dataclass(node) and not isinstance(node, Span | type):
        yield node
        for field in dataclasses.fields(node):
            yield from _walk(getattr(node, field.name))


def _names(spec: tree.Spec) -> Iterator[tree.Name]:
    """Every name in a file, but for keys of settings (conditions apart) and those of named arguments."""
    keys = {id(n.key) for n in _walk(spec) if isinstance(n, tree.Setting) and not isinstance(n, tree.ConditionNode)}
    return (n for n in _walk(spec) if isinstance(n, tree.Name) and id(n) not in keys)


def _used(spec: tree.Spec, path: Path, seen: frozenset[Path] = frozenset()) -> Iterator[tree.Spec]:
    """The files that a spec uses or extends, near ones first; what cannot be read is passed over: `check` tells it."""
    for item in spec.items:
        if not isinstance(item, tree.HeaderNode) or item.kind not in ("use", "extends") or len(seen) > USES:
            continue
        try:
            place = find(item, path.parent)
            inner = read(place)
        except (SpecError, OSError):
            continue
        if place not in seen:
            yield inner
            yield from _used(inner, place, seen | {place})


def _is_use(scope: GraphScope, definition: Definition) -> bool:
    """Whether a scope is a use of a recipe: one of a library that is used `as` something has another name there."""
    if definition.kind == "shared" or scope.definition is None:
        return scope.name == definition.name
    place = scope.definition[1]
    return (place.source.name, place.start) == (definition.span.source.name, definition.span.start)


def _scopes(scope: GraphScope) -> Iterator[GraphScope]:
    for member in scope.members:
        if isinstance(member, GraphScope):
            if member.kind in ("recipe", "shared"):
                yield member
            yield from _scopes(member)


def _block(before: str) -> str | None:
    """What kind of settings a brace opens, by what stands before it."""
    line = re.split(r"[\n{;]", before.rstrip())[-1]
    for words in (line.split(), line.rpartition(",")[2].split()):
        if words and words[0] in BLOCKS:
            return words[0]
    return "latent" if {"~", "posterior"} & set(line.split()) else None


def _keys(block: str) -> dict[str, Argument]:
    keys = declared.arguments(BLOCKS[block])
    return {name: key for name, key in keys.items() if block != "given" or name in DOCS["ConditionSettings"]}


def _says(argument: Argument) -> str:
    words = " | ".join((*argument.words, *(word.name for word in argument.calls)))
    kind = f"{argument.type}" + (f" ({words})" if words else "")
    default = _default(argument)
    return " ".join(part for part in (argument.doc, f"*{kind}*", f"default {default}" if default else "") if part)


def _default(argument: Argument) -> str:
    from hvdsl.draw.labels import as_in_spec

    return "" if isinstance(argument.default, Required) else as_in_spec(argument.default)


def _unreadable(error: OSError, source: Source) -> Diagnostic:
    from hvdsl.compiler.diagnostics.assembly import FILE_NOT_FOUND

    return Diagnostic(FILE_NOT_FOUND, f"a file cannot be read: {error.strerror}", Span(source, 0, 0))
