"""`__init__`: the submodules of a class, with comprehensions where a list repeats."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from itertools import pairwise

from hvdsl.compiler.emit import syntax
from hvdsl.compiler.emit.forward.steps import Address, Index
from hvdsl.compiler.emit.syntax import Template, abstract, fill
from hvdsl.compiler.graph import Literal

REPEATED = 3  # equal neighbours from which on a comprehension reads better than a list


class _Place:
    """A module, or what holds modules: by name (a scope) or by number (a list)."""

    def __init__(self) -> None:
        self.module: ast.expr | None = None
        self.named: dict[str, _Place] = {}
        self.numbered: list[_Place] = []

    def at(self, address: Address) -> _Place:
        if not address:
            return self
        first = address[0]
        if isinstance(first, str):
            return self.named.setdefault(first, _Place()).at(address[1:])
        while len(self.numbered) <= first.base:
            self.numbered.append(_Place())
        return self.numbered[first.base].at(address[1:])

    def expression(self, inside: bool) -> ast.expr:
        """`inside` another scope, a plain list becomes a `ModuleList` by itself."""
        if self.module is not None:
            return self.module
        if self.numbered:
            items = sequence([place.expression(inside=True) for place in self.numbered])
            return items if inside else syntax.call(syntax.dotted("nn", "ModuleList"), items)
        return syntax.call("Scope", **{name: place.expression(inside=True) for name, place in self.named.items()})


def members(entries: Mapping[Address, ast.expr]) -> dict[str, ast.expr]:
    """What to assign to which attribute, in order."""
    root = _Place()
    for address, module in entries.items():
        root.at(address).module = module
    return {name: place.expression(inside=False) for name, place in root.named.items()}


def attribute(address: Address, holder: ast.expr | None = None) -> ast.expr:
    """Where a module is: `self.q.conv[0]`, in `self` or in another holder."""
    result: ast.expr = syntax.name("self") if holder is None else holder
    for part in address:
        if isinstance(part, Index):
            result = ast.Subscript(result, index(part), ast.Load())
        else:
            result = ast.Attribute(result, part, ast.Load())
    return result


def sequence(items: Sequence[ast.expr]) -> ast.expr:
    """A list of modules: neighbours that are equal, or whose numbers grow evenly, become comprehensions."""
    runs: list[list[ast.expr]] = []
    forms = [abstract(ast.unparse(item)) for item in items]
    start = 0
    while start < len(items):
        stop = _run(forms, start)
        if stop - start >= REPEATED:
            runs.append([_comprehension(forms[start:stop], items[start])])
            start = stop
        else:
            runs.append([items[start]])
            start += 1
    parts = [part for run in runs for part in run]
    if len(parts) == 1:
        return parts[0] if isinstance(parts[0], ast.ListComp) else ast.List(parts, ast.Load())
    spread: list[ast.expr] = [ast.Starred(p, ast.Load()) if isinstance(p, ast.ListComp) else p for p in parts]
    return ast.List(spread, ast.Load())


def _run(forms: Sequence[tuple[Template, tuple[Literal, ...]]], start: int) -> int:
    """Where the run of even items from `start` ends."""
    stop = start + 1
    while stop < len(forms) and forms[stop][0] == forms[start][0] and _even([v for _, v in forms[start : stop + 1]]):
        stop += 1
    return stop


def _even(rows: Sequence[tuple[Literal, ...]]) -> bool:
    return all(_step(column) is not None for column in zip(*rows, strict=True))


def _step(column: Sequence[Literal]) -> int | None:
    """By how much integers grow from one to the next; 0 for equal literals, None for neither."""
    if all(repr(v) == repr(column[0]) for v in column):
        return 0
    numbers = [v for v in column if isinstance(v, int) and not isinstance(v, bool)]
    steps = {b - a for a, b in pairwise(numbers)}
    return steps.pop() if len(numbers) == len(column) and len(steps) == 1 else None


def _comprehension(forms: Sequence[tuple[Template, tuple[Literal, ...]]], first: ast.expr) -> ast.expr:
    columns = list(zip(*(values for _, values in forms), strict=True))
    growth = [_step(column) or 0 for column in columns]
    variable = "i" if any(growth) else "_"
    item = first
    if any(growth):
        values = [
            index(Index(column[0], (("i", step),)))
            if step and isinstance(column[0], int)
            else syntax.literal(column[0])
            for column, step in zip(columns, growth, strict=True)
        ]
        item = fill(forms[0][0], [], values)
    counted = syntax.call("range", syntax.constant_node(len(forms)))
    return ast.ListComp(item, [ast.comprehension(ast.Name(variable, ast.Store()), counted, [], 0)])


def index(place: Index) -> ast.expr:
    """`10 + i`, `28 - i`, `2 * i + j`."""
    result: ast.expr | None = syntax.constant_node(place.base) if place.base or not place.steps else None
    for variable, step in place.steps:
        factor = syntax.name(variable)
        term: ast.expr = factor if abs(step) == 1 else ast.BinOp(syntax.constant_node(abs(step)), ast.Mult(), factor)
        if result is None:
            result = term if step > 0 else ast.UnaryOp(ast.USub(), term)
        else:
            result = ast.BinOp(result, ast.Add() if step > 0 else ast.Sub(), term)
    return result if result is not None else syntax.constant_node(0)
