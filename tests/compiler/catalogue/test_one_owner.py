"""What an operation is stands in its entry alone: nothing outside of the catalogue asks for its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hvdsl
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.graph import Role

ROOT = Path(hvdsl.__file__).parent
NAMES = OPERATIONS.keys() - LATENT_FAMILIES.keys()  # the runtime knows families of latents by name
LISTED = {name for name in NAMES if OPERATIONS[name].role is Role.OPERATION}  # `sample` is a word of its own
FOLDERS = ("compiler", "runtime", "cli", "draw", "render", "workflows", "importers")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).resolve().rglob("*.py")):
            if path.parent.name != "catalogue":
                yield f"{folder}/{path.name}", ast.parse(path.read_text(encoding="utf-8"))


def names_in(node: ast.AST) -> set[str]:
    """The operations that string literals in a piece of code name."""
    strings = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return strings & NAMES


def speaks_of_an_operation(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return text == "op" or text.endswith(".op") or "operation" in text


def comparisons(tree: ast.Module) -> Iterator[ast.AST]:
    """Where code decides by an operation's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(speaks_of_an_operation, sides)) and any(map(names_in, sides)):
                yield node
        elif isinstance(node, ast.Match):
            patterns = [case.pattern for case in node.cases]
            if speaks_of_an_operation(node.subject) and any(map(names_in, patterns)):
                yield node
        elif isinstance(node, ast.Subscript | ast.Call) and is_a_look_up(node):
            yield node


def is_a_look_up(node: ast.Subscript | ast.Call) -> bool:
    """Whether an operation's name is the key of a table: `NAMES[operation.name]`, `NAMES.get(operation.name)`."""
    key = node.slice if isinstance(node, ast.Subscript) else next(iter(node.args), None)
    if isinstance(node, ast.Subscript):
        reads = isinstance(node.ctx, ast.Load)  # what is stored by name, as a count, decides nothing
    else:
        reads = ast.unparse(node.func).endswith(".get")
    return reads and key is not None and "operation.name" in ast.unparse(key)


def lists(tree: ast.Module) -> Iterator[ast.AST]:
    """Collections of which every string is an operation's name: properties that belong into entries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Set | ast.List | ast.Tuple):
            items: list[ast.expr | None] = list(node.elts)
        elif isinstance(node, ast.Dict):
            items = list(node.keys)
        else:
            continue
        strings = [n.value for n in items if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        if len(strings) == len(items) > 1 and set(strings) <= LISTED:
            yield node


def test_nothing_outside_of_the_catalogue_decides_by_an_operations_name() -> None:
    found = [f"{place}:{node.lineno}" for place, tree in sources() for node in comparisons(tree)]  # type: ignore[attr-defined]
    assert not found, "say it in the operation's entry, or compare entries by identity"


def test_nothing_outside_of_the_catalogue_lists_operations() -> None:
    found = [f"{place}:{node.lineno}" for place, tree in sources() for node in lists(tree)]  # type: ignore[attr-defined]
    assert not found, "say it in the operations' entries"


@pytest.mark.parametrize(
    "text",
    [
        'node.op == "conv"',
        'node.operation.name in ("silu", "swish")',
        'operation.name != "glu"',
        "NAMES.get(node.operation.name)",
        'match node.operation.name:\n    case "gelu":\n        pass',
    ],
)
def test_the_test_sees_a_decision(text: str) -> None:
    assert list(comparisons(ast.parse(text)))


def test_the_test_sees_a_list() -> None:
    assert list(lists(ast.parse('SMOOTH = frozenset({"gelu", "silu"})')))
