"""Statements of step-by-step code as trees, and the names of their variables."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from hvdsl.compiler.emit import layout
from hvdsl.compiler.emit.expressions import substitute
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.grammar.record import Record, record


@record
class Statement(Record):
    """`targets = value`, or the value alone. `wanted` is what the spec calls it."""

    targets: tuple[str, ...]
    value: ast.expr
    wanted: str | None = None

    def lines(self, depth: int) -> list[str]:
        if not self.targets:
            return layout.lines("", self.value, depth=depth)
        return layout.assignment(self.targets, self.value, depth)


class Result(Statement):
    """The last statement of a function: its value is what the function returns."""

    __slots__ = ()

    def lines(self, depth: int) -> list[str]:
        return layout.lines("return ", self.value, depth=depth)


@record
class Function(Statement):
    """A function of tensors within a method; `targets` is its name and `value` its last statement's."""

    parameters: tuple[str, ...] = ()
    body: tuple[Statement, ...] = ()

    def lines(self, depth: int) -> list[str]:
        head = ", ".join(f"{name}: Tensor" for name in self.parameters)
        pad = layout.INDENT * depth
        first = [f"{pad}def {self.targets[0]}({head}) -> Tensor:"]
        if len(first[0]) > layout.WIDTH:
            first = [f"{pad}def {self.targets[0]}(", f"{pad}{layout.INDENT}{head}", f"{pad}) -> Tensor:"]
        return ["", *first, *(line for s in self.body for line in s.lines(depth + 1)), ""]


def named(statements: Sequence[Statement], kept: Mapping[str, str], fallback: Sequence[str]) -> list[Statement]:
    """Give variables their names: the spec's, else the first of `fallback` whose value is not used any more.

    `kept` are names that are settled, of parameters; they hold to the end.
    """
    last: dict[str, int] = {}
    for at, statement in enumerate(statements):
        for read in _names(statement.value):
            last[read] = at
    names, until = dict(kept), {name: len(statements) for name in kept.values()}
    done: list[Statement] = []
    for at, statement in enumerate(statements):
        value = substitute(statement.value, {old: ast.Name(new, ast.Load()) for old, new in names.items()})
        targets: list[str] = []
        for target in statement.targets:
            busy = {name for name, end in until.items() if end > at} | set(targets)
            wanted = [allowed(statement.wanted)] if statement.wanted and len(statement.targets) == 1 else [*fallback]
            name = next((n for n in wanted if n not in busy), None) or unused(wanted[-1], busy)
            names[target], until[name] = name, last.get(target, at)
            targets.append(name)
        done.append(replace(statement, targets=tuple(targets), value=value))
    return done


def unused(name: str, taken: Set[str]) -> str:
    """The name, with a number behind it where it is taken."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _names(value: ast.expr) -> Iterable[str]:
    return (node.id for node in ast.walk(value) if isinstance(node, ast.Name))
