"""What numbers of the emitted code were in the spec: `let`s as module constants, expressions as comments."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hvdsl.compiler.catalogue.table import Layer
from hvdsl.compiler.emit import layout
from hvdsl.compiler.emit.modules.instance import ModuleInstance
from hvdsl.compiler.emit.names import Names
from hvdsl.compiler.graph import Graph, Literal, Named, Term, Written

ATTRIBUTES = ("CODES", "CONDITIONS", "LATENTS", "STEPS")  # of emitted classes, or a table: `let codes` is `N_CODES`
FRACTION = re.compile(r"(?<![\w.])\d+\.\d{6,}(?:e-?\d+)?(?![\w.])|(?<![\w.])\d+(?:\.\d+)?e-\d+(?![\w.])")


def constants(roots: Iterable[ModuleInstance], names: Names) -> tuple[dict[str, str], list[str]]:
    """Name the `let`s that are whole arguments of layers and have one value everywhere; also, their definitions.

    `let width = 384` becomes `WIDTH = 384`.
    """
    values: dict[str, set[int]] = defaultdict(set)
    for root in roots:
        for value in _values(root):
            for number in _flat(value):
                if isinstance(number, Named):
                    values[number.let].add(int(number))
    single = {let: next(iter(found)) for let, found in sorted(values.items()) if len(found) == 1}
    called = {let: names.take(f"N_{let.upper()}" if let.upper() in ATTRIBUTES else let.upper()) for let in single}
    return called, [f"{called[let]} = {value}" for let, value in single.items()]


def _values(instance: ModuleInstance) -> Iterator[Literal]:
    """The arguments of all layers."""
    for entry in instance.entries.values():
        if isinstance(entry, Layer):
            yield from entry.args
            yield from (value for _, value in entry.options)
    for part in instance.parts():
        yield from _values(part)


def _flat(value: Literal) -> Iterator[Literal]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, Term):
        for item in (*value.args, *(v for _, v in value.options)):
            yield from _flat(item)
    else:
        yield value


def expressions(graphs: Iterable[Graph]) -> Mapping[str, str]:
    """The text of each computed fraction by its digits, where all that have these digits were written alike."""
    texts: dict[str, set[str]] = defaultdict(set)
    for graph in graphs:
        for node in graph.nodes:
            for number in (n for value in node.args.values() for n in _flat(value)):
                if isinstance(number, Written):
                    texts[repr(float(number))].add(" ".join(number.text.split()))
    return {digits: next(iter(found)) for digits, found in texts.items() if len(found) == 1}


def with_comments(lines: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """Say behind each line (or above it, where there is no room) what its fractions were computed from."""
    done: list[str] = []
    for line in lines:
        found = dict.fromkeys(texts[digits] for digits in FRACTION.findall(line) if digits in texts)
        if not found:
            done.append(line)
            continue
        comment = "# " + ", ".join(found)
        indent = line[: len(line) - len(line.lstrip())]
        beside = f"{line}  {comment}"
        done += [beside] if len(beside) <= layout.WIDTH else [f"{indent}{comment}", line]
    return done
