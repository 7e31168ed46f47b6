"""Recipes that nothing uses, elaborated on their own: contradictions that no input could mend are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from hvdsl.compiler.assembly.libraries import nodes
from hvdsl.compiler.catalogue.structure import IMAGE
from hvdsl.compiler.diagnostics import shapes, values
from hvdsl.compiler.elaboration.builder import Builder
from hvdsl.compiler.elaboration.environment import Environment, Frame, Owner
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.program import Program
from hvdsl.compiler.elaboration.values import Tensor, Value
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.faults import Exhausted
from hvdsl.compiler.evaluate.values import INVALID
from hvdsl.compiler.graph import Edge, Shape
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics
from hvdsl.grammar.record import Record, record

Make = Callable[[Program, Builder, Diagnostics], Interpreter]

CHANNELS = (64, 96, 3, 1, 16, 2, 30)
SIZES = (32, 16, 8, 1, 2, 4, 64, 28, 7, 14, 128, 256, 512, *range(3, 64))
MOST_TRIES = 400  # of one recipe
MOST_OPERATIONS = 200  # of one try: what is longer is left alone

_OF_ITSELF = {
    values.WRONG_KIND,
    values.NOT_AN_INTEGER,
    values.WRONG_ARGUMENTS,
    values.NEGATIVE_REPEAT,
    shapes.DOES_NOT_FIT,
    shapes.WRONG_NUMBER,
}
"""What a recipe can be wrong in by itself; what only its place decides (taps, labels, `index`) is not."""


@record
class _Input(Record):
    """What flows into a recipe, and where it stands."""

    section: tree.Section | tree.Prior
    shape: Shape
    tensors: int = 1


def contradictions(recipe: tree.Recipe, program: Program, spec: tree.Spec, make: Make) -> Sequence[Diagnostic]:
    """Return what is wrong with a recipe whatever flows into it and wherever it stands.

    The recipe is elaborated with inputs of many channels and sizes, those that the spec mentions among them, in every
    section, its parameters unknown. What all of them refuse in the same words, but for the size of maps, no input can
    mend. The first input that fits ends the search.
    """
    common: dict[tuple[object, ...], Diagnostic] | None = None
    reached = 0  # by one tensor, in operations
    try:
        for given in islice(_inputs(spec), MOST_TRIES):
            refused, placed = _refused(recipe, program, make, given)
            if given.tensors > 1:
                if not refused or placed > reached:
                    return ()  # it is written for several streams, whose shapes may differ in any way
                continue
            wrong = {_words(d): d for d in refused}
            common = wrong if common is None else {key: d for key, d in common.items() if key in wrong}
            reached = max(reached, placed)
            if not common:
                return ()
    except Exhausted:
        return ()
    return tuple((common or {}).values())


def _inputs(spec: tree.Spec) -> Iterator[_Input]:
    """Yield inputs, the most usual ones first."""
    written = [n.value for n in nodes(spec) if isinstance(n, tree.Number)]
    numbers = sorted({n for n in written if isinstance(n, int) and 0 < n <= 2048})
    maps = {n.sizes[-2:] for n in nodes(spec) if isinstance(n, tree.Dim) and len(n.sizes) > 1}
    channels = list(dict.fromkeys([*CHANNELS, *numbers]))
    sizes = list(dict.fromkeys([*sorted(maps, reverse=True), *((n, n) for n in (*numbers, *SIZES))]))
    sections = [item for item in spec.items if isinstance(item, tree.Section | tree.Prior)]
    usual = (channels[0], SIZES[0], SIZES[0])
    for section in sections:
        yield from (_Input(section, usual, tensors) for tensors in range(1, 7))
    for section in sections:
        yield from (_Input(section, (count, *usual[1:])) for count in channels[1:])
        yield from (_Input(section, (usual[0], *size)) for size in sizes)
    for count, size in product(channels[1:], sizes):
        yield from (_Input(section, (count, *size)) for section in sections)


def _refused(recipe: tree.Recipe, program: Program, make: Make, given: _Input) -> tuple[list[Diagnostic], int]:
    """Return what is wrong with a recipe by itself with one input, and how many operations were placed."""
    builder, diagnostics = Builder("unused", recipe.span), Diagnostics()
    builder.most_nodes = min(builder.most_nodes, MOST_OPERATIONS)
    interpreter = make(program, builder, diagnostics)
    kind = given.section.kind if isinstance(given.section, tree.Section) else "prior"
    label = (given.shape[1], given.shape[2])
    images = [
        builder.node(IMAGE, {"shape": given.shape}, (), (given.shape,), recipe.span) for _ in range(given.tensors)
    ]
    flowing = tuple(Tensor(Edge(image.index), given.shape) for image in images)
    interpreter.place, interpreter.section_defaults = (kind, label), _defaults(given.section, kind)
    with builder.enter("section", kind, recipe.span), builder.enter("recipe", "unused", recipe.span) as scope:
        start = flowing if given.tensors > 1 else flowing[0]
        frame = Frame(kind, label, start, recipe.name.id, 0, scope=scope)
        unknown: dict[str, Value] = {parameter.name.id: INVALID for parameter in recipe.parameters}
        environment = Environment(frame, Owner(recipe.kind, recipe.name.id), names={**unknown, "x": start})
        interpreter.run(recipe.body, environment)
    unknown_value = describe(INVALID)  # of a parameter
    wrong = [d for d in diagnostics if d.code in _OF_ITSELF and d.found != unknown_value]
    return wrong, len(builder.nodes) - given.tensors


def _defaults(section: tree.Section | tree.Prior, kind: str) -> Environment:
    """What the `default`s of a section say to the recipes in it."""
    environment = Environment(Frame(kind, None), Owner("model", kind))
    statements = section.rows if isinstance(section, tree.Section) else section.body.statements
    for statement in statements:
        if isinstance(statement, tree.Default):
            known = environment.defaults.setdefault(statement.operation.id, [])
            known += [(setting, environment) for setting in statement.settings]
    return environment


def _words(diagnostic: Diagnostic) -> tuple[object, ...]:
    """What a diagnostic says, but for the size of maps."""
    texts = (diagnostic.message, diagnostic.found, diagnostic.expected)
    return (diagnostic.code, diagnostic.span, *(re.sub(r"\b(\d+)x\d+x\d+\b", r"\1xHxW", text) for text in texts))
