"""Checks of the top level before elaboration: reserved names, defaults, recipes and priors that use themselves."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.assembly.assemble import Assembled
from hvdsl.compiler.assembly.libraries import bound, is_label, nodes
from hvdsl.compiler.assembly.unread import mentions
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.diagnostics import names as codes
from hvdsl.compiler.diagnostics import warnings as warning_codes
from hvdsl.compiler.elaboration.arguments import check_default
from hvdsl.compiler.elaboration.environment import CONTEXT_NAMES
from hvdsl.compiler.elaboration.names import check_name
from hvdsl.compiler.elaboration.program import ANYTHING, PUBLIC_OPERATIONS, RESERVED, Program
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.expressions import unknown
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics


def unused_recipes(closed: Assembled) -> list[tree.Recipe]:
    """Return the recipes of the spec's own text that nothing uses, not even one of them."""
    unused = {d.span for d in closed.unread if d.code is warning_codes.UNREAD_DEFINITION}
    return [item for item in closed.spec.items if isinstance(item, tree.Recipe) and item.name.span in unused]


def check_unused(closed: Assembled, program: Program, diagnostics: Diagnostics) -> None:
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
    recipes: dict[str, tree.Recipe] = {}
    for item in spec.items:
        if isinstance(item, tree.Let | tree.Shared | tree.Recipe):
            with diagnostics.collecting():
                check_name(item.name)
        if isinstance(item, tree.Recipe):
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


def _uses(recipe: tree.Recipe, recipes: dict[str, tree.Recipe]) -> Iterator[str]:
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
        elif isinstance(node, tree.Node) and not isinstance(node, tree.Number | tree.Dim | tree.String):
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
