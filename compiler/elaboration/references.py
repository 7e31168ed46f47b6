"""The top level before elaboration: reserved names, defaults, circles; recipes that nothing uses, on their own.

Of an unused recipe names are looked up, and shapes are tried with many inputs: what none could mend is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from hvdsl.compiler.assembly.assemble import Assembled
from hvdsl.compiler.assembly.libraries import bound, is_label, nodes
from hvdsl.compiler.assembly.unread import mentions
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.structure import IMAGE
from hvdsl.compiler.diagnostics import names as codes
from hvdsl.compiler.diagnostics import shapes, values
from hvdsl.compiler.diagnostics import warnings as warning_codes
from hvdsl.compiler.elaboration.arguments import check_default
from hvdsl.compiler.elaboration.builder import GraphBuilder
from hvdsl.compiler.elaboration.environment import (
    ANYTHING,
    CONTEXT_NAMES,
    PUBLIC_OPERATIONS,
    RESERVED,
    Environment,
    Frame,
    Owner,
    TopLevel,
)
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.names import check_name
from hvdsl.compiler.elaboration.values import Tensor, Value
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import INVALID, describe
from hvdsl.compiler.evaluate.expressions import unknown
from hvdsl.compiler.graph import Edge, Shape
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Exhausted
from hvdsl.grammar.record import Record, record


def unused_recipes(closed: Assembled) -> list[tree.RecipeNode]:
    """Return the recipes of the spec's own text that nothing uses, not even one of them."""
    unused = {d.span for d in closed.unread if d.code is warning_codes.UNREAD_DEFINITION}
    return [item for item in closed.spec.items if isinstance(item, tree.RecipeNode) and item.name.span in unused]


def check_unused(closed: Assembled, program: TopLevel, diagnostics: Diagnostics) -> None:
    """Look up the names of recipes that nothing uses: nothing else would."""
    language = {*PUBLIC_OPERATIONS, *RESERVED, *CONTEXT_NAMES, *arithmetic.FUNCTIONS, arithmetic.PI, *ANYTHING.words}
    top = {*closed.defined, *program.known(), *program.conditions}
    for item in unused_recipes(closed):
        known = {*top, *(parameter.name.id for parameter in item.parameters), *bound(item.body)}
        labels = {id(name) for node in nodes(item) if is_label(node) for name in nodes(node)}
        for name in mentions(item):
            if name.id not in known and name.id not in language and id(name) not in labels:
                place = "a name of this recipe, the top level or an operation"
                diagnostics.add(unknown(name, [*known, *PUBLIC_OPERATIONS], None, place).diagnostic)


def check_program(spec: tree.Spec, diagnostics: Diagnostics) -> None:
    """Add what is wrong with the top level to `diagnostics`."""
    recipes: dict[str, tree.RecipeNode] = {}
    for item in spec.items:
        if isinstance(item, tree.Let | tree.Shared | tree.RecipeNode):
            with diagnostics.collecting():
                check_name(item.name)
        if isinstance(item, tree.RecipeNode):
            recipes[item.name.id] = item
            for parameter in item.parameters:
                with diagnostics.collecting():
                    check_name(parameter.name, local=True)
        if isinstance(item, tree.Default):
            for fault in check_default(OPERATIONS, item):
                diagnostics.add(fault.diagnostic)
    for item in spec.items:
        for flow in _flows(item):
            _check_conditionals(flow, diagnostics)
    _check_priors([item for item in spec.items if isinstance(item, tree.Prior)], diagnostics)
    uses = {name: list(_uses(recipe, recipes)) for name, recipe in recipes.items()}
    for circle in _circles(uses):
        recipe = recipes[circle[0]]
        diagnostics.add(
            Diagnostic(
                codes.RECURSION,
                f"`{circle[0]}` uses itself",
                recipe.name.span,
                " -> ".join(f"`{name}`" for name in circle),
                "recipes that do not come back to themselves",
                "repeat with `step * n`",
            )
        )


def _check_priors(priors: list[tree.Prior], diagnostics: Diagnostics) -> None:
    """Priors sample one after the other, each after those that it is given."""
    names = {prior.name.id: prior for prior in priors}
    given = {name: [g.id for g in prior.given if g.id in names] for name, prior in names.items()}
    for circle in _circles(given):
        diagnostics.add(
            Diagnostic(
                codes.PRIORS_IN_A_CIRCLE,
                f"the prior of `{circle[0]}` waits for itself",
                names[circle[0]].name.span,
                " given ".join(f"`{name}`" for name in circle),
                "priors that can be sampled one after the other",
                "leave out one of the `given`",
            )
        )


def _flows(item: tree.SpecItem) -> Iterator[tree.Flow]:
    for node in nodes(item):
        if isinstance(node, tree.Flow):
            yield node


def _check_conditionals(flow: tree.Flow, diagnostics: Diagnostics) -> None:
    """Warn of `a -> b if c else d -> e`, which is `a -> (b if c else d) -> e`."""
    for step in flow.steps:
        if not isinstance(step, tree.Choose):
            continue
        text, start = step.span.source.text, step.span.start
        if text[start] != "(" and not text[:start].rstrip().endswith("("):
            diagnostics.add(
                Diagnostic(
                    warning_codes.FLOW_IN_CONDITIONAL,
                    "a conditional inside a flow, without parentheses",
                    step.span,
                    step.span.text,
                    f"({step.span.text})",
                    "`->` binds more loosely than `if`: what is before and after belongs to both branches",
                )
            )


def _uses(recipe: tree.RecipeNode, recipes: dict[str, tree.RecipeNode]) -> Iterator[str]:
    """Names of the recipes that a recipe's text mentions, where its own names do not hide them."""
    own = {p.name.id for p in recipe.parameters} | set(bound(recipe.body))
    todo: list[object] = [recipe.body, *(p.default for p in recipe.parameters if p.default is not None)]
    seen: set[str] = set()
    while todo:
        node = todo.pop()
        if isinstance(node, tuple):
            todo += node
        elif isinstance(node, tree.Name):
            if node.id in recipes and node.id not in own and node.id not in seen:
                seen.add(node.id)
                yield node.id
        elif isinstance(node, tree.Bind):
            todo.append(node.value)
        elif isinstance(node, tree.Latent):
            todo += [node.prior, node.posterior, *(setting.value for setting in node.settings)]
        elif isinstance(node, tree.TreeNode) and not isinstance(node, tree.Number | tree.Dim | tree.String):
            todo += [getattr(node, f) for f in node.__dataclass_fields__ if f not in ("span", "before", "after")]


def _circles(uses: dict[str, list[str]]) -> Iterator[list[str]]:
    """Yield each circle once, as the names along it."""
    done: set[str] = set()
    for start in uses:
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(uses[start]))] if start not in done else []
        if stack:
            path.append(start)
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done.add(name)
                stack.pop()
                path.pop()
            elif following in path:
                yield [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append((following, iter(uses[following])))


Make = Callable[[TopLevel, GraphBuilder, Diagnostics], Interpreter]

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


def contradictions(recipe: tree.RecipeNode, program: TopLevel, spec: tree.Spec, make: Make) -> Sequence[Diagnostic]:
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


def _refused(recipe: tree.RecipeNode, program: TopLevel, make: Make, given: _Input) -> tuple[list[Diagnostic], int]:
    """Return what is wrong with a recipe by itself with one input, and how many operations were placed."""
    builder, diagnostics = GraphBuilder("unused", recipe.span), Diagnostics()
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
