"""Print a tree in the YAML form, without comments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import yaml

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.printer import print_expression, print_statement

_ORDER = [
    "hv",
    "model",
    "title",
    "extends",
    "use",
    "needs",
    "let",
    "shared",
    "default",
    "data",
    "cell",
    "group",
    "encoder",
    "decoder",
    "likelihood",
    "objective",
    "prior",
    "train",
    "evaluate",
    "sample",
    "variant",
]
_Value: TypeAlias = "str | list[_Value] | dict[str, _Value]"


def canonical(spec: tree.Spec) -> tree.Spec:
    """Return the spec with its items in the order in which YAML groups them; items of one kind keep theirs.

    `read_yaml(print_yaml(spec)) == canonical(spec)`.
    """
    return replace(spec, items=_sorted(spec.items))


def print_yaml(spec: tree.Spec) -> str:
    """Return a spec in the YAML form. Raises `SpecError` where a name stands twice: YAML cannot say it."""
    return str(
        yaml.serialize(_node(_items(_sorted(spec.items))), Dumper=yaml.BaseDumper, width=4096, allow_unicode=True)
        if spec.items
        else ""
    )


def _kind(item: tree.SpecItem) -> str:
    match item:
        case tree.Version():
            return "hv"
        case (
            tree.HeaderNode(kind=kind)
            | tree.RecipeNode(kind=kind)
            | tree.Section(kind=kind)
            | tree.SettingsNode(kind=kind)
        ):
            return kind
        case _:
            return type(item).__name__.removesuffix("Node").lower()


def _sorted(items: Sequence[tree.SpecItem]) -> tuple[tree.SpecItem, ...]:
    inside = (replace(i, items=_sorted(i.items)) if isinstance(i, tree.Variant) else i for i in items)
    return tuple(sorted(inside, key=lambda item: _ORDER.index(_kind(item))))


def _put(into: dict[str, _Value], key: str, value: _Value, node: tree.TreeNode) -> None:
    if key in into:
        message = f"`{key}` stands twice, which the YAML form cannot say"
        raise SpecError([Diagnostic(codes.DUPLICATE_KEY, message, node.span, help="keep one of them")])
    into[key] = value


def _append(into: dict[str, _Value], key: str, value: _Value) -> None:
    entries = into.setdefault(key, [])
    assert isinstance(entries, list)  # nothing else is put there
    entries.append(value)


def _items(items: Iterable[tree.SpecItem]) -> dict[str, _Value]:
    out: dict[str, _Value] = {}
    for item in items:
        match item:
            case tree.Version(number=number):
                _put(out, "hv", number.text, item)
            case tree.HeaderNode(kind="use", value=tree.String(value=text), alias=alias):
                _append(out, "use", text if alias is None else {"file": text, "as": alias.id})
            case tree.NeedsNode():
                _append(out, "needs", print_statement(item).removeprefix("needs "))
            case tree.HeaderNode(kind=kind, value=value):
                _put(out, kind, value.value if isinstance(value, tree.String) else value.id, item)
            case tree.LikelihoodNode(value=expression):
                _put(out, "likelihood", print_expression(expression), item)
            case tree.Section(kind=kind, rows=rows):
                _put(out, kind, _rows(rows), item)
            case tree.SettingsNode():
                _put_settings(out, item)
            case _:
                _put_grouped(out, item)
    return out


def _put_grouped(out: dict[str, _Value], item: tree.SpecItem) -> None:
    """Put an item that stands under a heading for its kind."""
    key: str
    value: _Value
    match item:
        case tree.Let(name=name, value=expression) | tree.Shared(name=name, value=expression):
            heading, key, value = _kind(item), name.id, print_expression(expression)
        case tree.Default(operation=operation, settings=settings):
            heading, key, value = "default", operation.id, _settings(settings)
        case tree.RecipeNode(kind=kind, body=body):
            bare = replace(item, body=replace(body, statements=()))
            heading, key, value = f"{kind}s", print_statement(bare)[len(kind) + 1 : -3], _body(body)
        case tree.Prior(body=body):
            bare_prior = replace(item, body=replace(body, statements=()))
            heading, key, value = "priors", print_statement(bare_prior)[len("prior ") : -3], _body(body)
        case tree.Variant(name=name, items=items):
            heading, key, value = "variants", name.id, _items(items)
        case _:
            raise TypeError(f"no item that stands under a heading: {item!r}")
    group = out.setdefault(heading, {})
    assert isinstance(group, dict)  # nothing else is put there
    _put(group, key, value, item)


def _put_settings(out: dict[str, _Value], item: tree.SettingsNode) -> None:
    settings = _settings(item.settings)
    if item.name is None:
        _put(out, item.kind, settings, item)
    elif item.kind == "data" and "source" not in settings and "data" not in out:
        _put(out, "data", {"source": print_expression(item.name), **settings}, item)
    else:
        _put(out, f"{item.kind} {print_expression(item.name)}", settings, item)


def _settings(settings: Iterable[tree.Setting]) -> dict[str, _Value]:
    out: dict[str, _Value] = {}
    for setting in settings:
        if isinstance(setting, tree.ConditionNode):
            key, _, value = print_statement(setting).partition(" = ")
            _put(out, key, value, setting)
        else:
            _put(out, setting.key.id, print_expression(setting.value), setting)
    return out


def _rows(rows: Iterable[tree.Row | tree.Let | tree.Shared | tree.Default]) -> dict[str, _Value]:
    out: dict[str, _Value] = {}
    for row in rows:
        match row:
            case tree.Row(label=label, value=tree.Block() as block):
                _put(out, print_expression(label), [print_statement(s) for s in block.statements], row)
            case tree.Row(label=label, value=value):
                _put(out, print_expression(label), print_expression(value), row)
            case tree.Default(operation=operation, settings=settings):
                _put(out, f"default {operation.id}", _settings(settings), row)
            case tree.Let(name=name, value=value) | tree.Shared(name=name, value=value):
                _put(
                    out,
                    f"{'let' if isinstance(row, tree.Let) else 'shared'} {name.id}",
                    print_expression(value),
                    row,
                )
    return out


def _body(block: tree.Block) -> _Value:
    statements: list[_Value] = [print_statement(statement) for statement in block.statements]
    return statements[0] if len(statements) == 1 else statements


def _node(value: _Value) -> yaml.Node:
    """Build YAML nodes; BaseDumper resolves no types, and so quotes only where YAML's syntax needs it."""
    plain = yaml.resolver.BaseResolver
    if isinstance(value, str):
        return yaml.ScalarNode(plain.DEFAULT_SCALAR_TAG, value)
    if isinstance(value, list):
        items = [_node(v) for v in value]
        return yaml.SequenceNode(plain.DEFAULT_SEQUENCE_TAG, items, flow_style=not value)
    entries = [(_node(k), _node(v)) for k, v in value.items()]
    return yaml.MappingNode(plain.DEFAULT_MAPPING_TAG, entries, flow_style=not value)
