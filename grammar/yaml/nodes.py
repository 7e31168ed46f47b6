"""The YAML skeleton: mappings, lists and raw scalars with exact places, nothing else of YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, TypeAlias

import yaml

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import limits
from hvdsl.grammar.diagnostics import Code, Diagnostic, Diagnostics, SpecError
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.tokens import Fragment


@record
class Scalar(Record):
    fragment: Fragment  # the text as YAML means it, and where each character stands
    span: Span

    @property
    def text(self) -> str:
        return self.fragment.text


@record
class Sequence(Record):
    items: tuple[Node, ...]
    span: Span


@record
class Mapping(Record):
    entries: tuple[tuple[Scalar, Node], ...]
    span: Span


Node: TypeAlias = Scalar | Sequence | Mapping


_PROBLEMS = (  # a part of what PyYAML says, what is wrong, what to write
    ("mapping values", "a `:` where no entry can begin", "begin entries in one column, and quote values with `: `"),
    ("expected ':'", "a key without its `:`", "write `key: value`, the value deeper where it has lines of its own"),
    ("block end", "a line that is indented unlike those around it", "begin the entries of a mapping in one column"),
    ("',' or ']'", "a list in `[ ]` that is not closed", "write `,` between its values, and `]` behind them"),
    ("',' or '}'", "a mapping in `{ }` that is not closed", "write `,` between its entries, and `}` behind them"),
    ("sequence entries", "`- ` where no list can begin", "begin a list on the line below its key"),
    ("mapping keys", "a key where none can stand", "begin it on a line of its own"),
    ("cannot start any token", "a value cannot begin like this", "put the value in quotes"),
    ("end of stream", "a text in quotes that is not closed", "close it on its line"),
    ("escape", "an escape that YAML does not know", "take single quotes, in which `\\` is itself"),
    ("document", "a second document", "one file is one spec: remove `---` and what follows"),
    ("node content", "nothing where a value is expected", "write the value, or remove the key"),
)


def _in_our_words(problem: str, character: str) -> tuple[str, str]:
    """Return what is wrong, and what to write."""
    if character == "\t":
        return "a tab where spaces are expected", "indent by spaces"
    other = ("", "a character that means something to YAML", "put the value in quotes")
    _, what, help_ = next((entry for entry in _PROBLEMS if entry[0] in problem), other)
    return what, help_


def compose(source: Source, diagnostics: Diagnostics) -> Node | None:
    """Return the skeleton of a YAML file, None if it is empty.

    Works on PyYAML's events: no value is typed, no tag resolved, and an alias is refused before it could
    stand for anything.
    Raises `SpecError` for what is no YAML or uses parts of YAML that this form does without.
    """
    try:
        return _Composer(source, diagnostics).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = min(mark.index, len(source.text)) if mark else 0
        what, help_ = _in_our_words(str(error.problem), source.text[at : at + 1])
        diagnostics.add(Diagnostic(codes.BAD_YAML, f"this is not YAML: {what}", Span(source, at, at), help=help_))
    except yaml.reader.ReaderError as error:
        at = min(error.position, len(source.text))
        diagnostics.add(
            Diagnostic(
                codes.NOT_TEXT,
                f"character U+{ord(source.text[at]):04X} is not allowed in YAML",
                Span(source, at, at + 1),
            )
        )
    raise SpecError(diagnostics)


class _Composer:
    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.events: Iterator[yaml.Event] = yaml.parse(source.text, Loader=yaml.SafeLoader)
        self.depth = 0
        self.count = 0

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._stop(codes.BAD_YAML, "a second document begins here", event, "a file holds one spec")
                root = self._node(next(self.events))
        return root

    def _node(self, event: yaml.Event) -> Node:
        self.count += 1
        if self.count > limits.TOKENS:
            self._stop(codes.TOO_MANY_TOKENS, f"the file has more than {limits.TOKENS:,} parts", event, "split it")
        if isinstance(event, yaml.AliasEvent):
            self._stop(
                codes.BAD_YAML,
                f"`*{event.anchor}` is an alias",
                event,
                "write it out, or give it a name with `let`",
            )
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)  # nothing else begins a node
        if event.anchor is not None:
            self._stop(
                codes.BAD_YAML,
                f"`&{event.anchor}` is an anchor",
                event,
                "take it out; names are given with `let`",
            )
        if event.tag is not None:
            self._stop(
                codes.BAD_YAML,
                f"`{event.tag}` is a tag",
                event,
                "take it out; values have no YAML types here",
            )
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        self.depth += 1
        if self.depth > limits.BRACKETS:
            self._stop(
                codes.TOO_DEEP,
                f"more than {limits.BRACKETS} lists and mappings are open here",
                event,
                "nest less deeply",
            )
        node = self._sequence(event) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(event)
        self.depth -= 1
        return node

    def _sequence(self, start: yaml.CollectionStartEvent) -> Sequence:
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event))
        return Sequence(tuple(items), self._span(start, event, items))

    def _mapping(self, start: yaml.CollectionStartEvent) -> Mapping:
        entries: list[tuple[Scalar, Node]] = []
        keys: dict[str, Scalar] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, value = self._node(event), self._node(next(self.events))
            if not isinstance(key, Scalar):
                self._stop(codes.BAD_YAML, "a key is a list or a mapping", event, "keys are plain text")
            if key.text in keys:
                first = keys[key.text].span
                message = f"`{key.text[:40]}` stands twice in this mapping"
                help_ = f"the first one is on line {first.line}; keep one of them"
                self.diagnostics.add(Diagnostic(codes.DUPLICATE_KEY, message, key.span, help=help_))
            keys[key.text] = key
            entries.append((key, value))
        return Mapping(tuple(entries), self._span(start, event, [value for _, value in entries]))

    def _span(self, start: yaml.CollectionStartEvent, end: yaml.Event, parts: list[Node]) -> Span:
        last = _index(end.end_mark) if start.flow_style or not parts else parts[-1].span.end
        return Span(self.source, _index(start.start_mark), max(last, _index(start.start_mark)))

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        start, end = _index(event.start_mark), _index(event.end_mark)
        raw = self.source.text[start:end]
        places = tuple(_places(raw, event.value, event.style, start))
        span = Span(self.source, start, start + len(raw.rstrip()))
        return Scalar(Fragment(self.source, event.value, places), span)

    def _stop(self, code: Code, message: str, event: yaml.Event, help_: str) -> NoReturn:
        end = max(_index(event.end_mark), _index(event.start_mark))
        self.diagnostics.add(Diagnostic(code, message, Span(self.source, _index(event.start_mark), end), help=help_))
        raise SpecError(self.diagnostics)


def _index(mark: yaml.error.Mark | yaml._yaml.Mark | None) -> int:
    """Return the offset of a mark. PyYAML's own parser always sets one; its types allow for none."""
    return mark.index if mark is not None else 0


_ESCAPES = {"x": 4, "u": 6, "U": 10}


def _places(raw: str, value: str, style: str | None, start: int) -> Iterator[int]:
    """Yield the offset in the file of every character of a scalar's value, and of its end.

    What YAML changes between the two is white space (folding, indentation) and, in quotes, escapes; all
    else stands in both, in order.
    White space maps to where it stands, or to the next thing after it.
    """
    at = 0
    if style in ("|", ">"):
        at = raw.find("\n") + 1
    elif style in ("'", '"'):
        at = 1
    for char in value:
        escaped = style == '"' and raw[at : at + 1] == "\\" and raw[at + 1 : at + 2] not in ("\n", "\r")
        if char.isspace() and not escaped:
            yield start + at
            if raw[at : at + 1].isspace():
                at += 1
            continue
        while raw[at : at + 1].isspace() or (style == '"' and raw[at : at + 2] in ("\\\n", "\\\r")):
            at += 1
        yield start + at
        if style == '"' and raw[at : at + 1] == "\\":
            at += _ESCAPES.get(raw[at + 1 : at + 2], 2)
        else:
            at += 2 if style == "'" and char == "'" else 1
    yield start + min(at, len(raw))
