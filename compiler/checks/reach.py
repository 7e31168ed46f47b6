"""What reaches what: features that leak past the latents, values and latents that nothing reads, blind posteriors."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hvdsl.compiler.analysis.reach import factors, learning, reaching, sees_image, still_norms, untrained, weighs
from hvdsl.compiler.analysis.zeros import cancelled, find_zeros, linear_forms
from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.diagnostics import names as errors
from hvdsl.compiler.diagnostics import warnings as codes
from hvdsl.compiler.graph import ENTRIES, Edge, Graph, GraphScope, Node, Role
from hvdsl.compiler.model import Model
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic
from hvdsl.grammar.source import Span


def check_dead_values(model: Model) -> Iterator[Diagnostic]:
    """Operations and taps whose results reach nothing (HV0905), wherever their text stands."""
    graphs = [graph for graph in (model.graph, *model.priors.values()) if graph.nodes]
    live = [reaching(graph, (graph.output.node, *(latent.node for latent in graph.latents))) for graph in graphs]
    if all(
        node.index in alive or node.role in ENTRIES
        for graph, alive in zip(graphs, live, strict=True)
        for node in graph.nodes
    ):
        return
    useful = {span for graph, alive in zip(graphs, live, strict=True) for span in _spans(graph, alive)}
    reported = [d.span for d in model.warnings if d.span is not None]
    for graph, alive in zip(graphs, live, strict=True):
        yield from _dead_values(graph, alive, useful, reported)


def _dead_values(
    graph: Graph, alive: frozenset[int], useful: Collection[Span], reported: list[Span]
) -> Iterator[Diagnostic]:
    dead = [node for node in graph.nodes if node.index not in alive and node.role not in ENTRIES]
    read = {edge.node for node in dead if node.operation.needs is Needs.VALUES for edge in node.inputs}
    for node in dead:
        if node.index in read:
            continue
        place, span = _outermost(node, alive)
        if span in useful or any(_within(other, span) for other in reported):
            continue
        reported.append(span)
        nodes = list(place.nodes()) if isinstance(place, GraphScope) else [node]
        count = sum(p.size for n in nodes for p in n.parameters if p.trainable)
        what = f"`{place.name}`" if isinstance(place, GraphScope) and place.name else f"`{node.operation.name}`"
        yield Diagnostic(
            codes.UNREAD_VALUE,
            f"nothing reads what {what} gives",
            span,
            f"{count:,} parameters without a gradient" if count else "",
            "a value that reaches the output or a latent",
            "read it, or remove it",
        )


def check_zero_products(model: Model) -> Iterator[Diagnostic]:
    """Products with 0, of whose tensors nothing is left (HV0905); not where another instance has another factor."""
    zero: dict[Span, bool] = {}
    for graph in (model.graph, *model.priors.values()):
        for node, factor in factors(graph):
            zero[node.span] = factor == 0 and zero.get(node.span, True)
    for span in (span for span, nothing in zero.items() if nothing):
        yield Diagnostic(
            codes.UNREAD_VALUE,
            "nothing is left of what is multiplied by 0",
            span,
            "0 whatever the tensor is: nothing that it is made of gets a gradient from here",
            "a factor other than 0",
            "remove it, or write the factor that is meant",
        )


def check_emptied_maps(model: Model) -> Iterator[Diagnostic]:
    """Maps of which nothing is left, and weights that read zeros alone (HV0905), wherever their text stands."""
    empty: dict[Span, str] = {}
    alone: dict[Span, str] = {}  # where another instance of the same text has something: what never learns in this one
    turns: dict[Span, str] = {}  # the same of maps that a turn empties, where what comes behind it never learns
    silent = False
    for graph in (model.graph, *model.priors.values()):
        zero = find_zeros(graph)
        products = {node.index for node, factor in factors(graph) if factor == 0}
        heard = {node.path for node in graph.nodes if zero.deaf and node.index not in zero.deaf}
        for node in graph.nodes if zero.empty or zero.deaf else ():
            if node.inputs and node.index not in products:
                fresh = zero.empty.isdisjoint(node.inputs)
                emptied = fresh and Edge(node.index) in zero.empty
                what = "nothing is left of the map" if emptied else f"`{node.operation.name}` reads nothing but zeros"
                is_so = emptied or (fresh and node.index in zero.deaf)
                if is_so and node.parameters and node.path not in heard:
                    alone[node.span] = f"{what} in `{node.scope.path}`"
                elif emptied:
                    turns.setdefault(node.span, f"{what} in `{node.scope.path}`")
                silent |= not fresh and node.index in zero.deaf and node.path not in heard
                empty[node.span] = what if is_so and empty.get(node.span, what) else ""
    alone = (turns if silent else {}) | alone
    messages = {span: message or alone.get(span, "") for span, message in empty.items()}
    for span, message in ((span, message) for span, message in messages.items() if message):
        yield Diagnostic(
            codes.UNREAD_VALUE,
            message,
            span,
            "zeros at every position, whatever comes in: what it is made of gets no gradient from here",
            "a map of which something is read",
            "shift, pad and mask by less than the size of the map, or remove it",
        )


def check_cancelled_terms(model: Model) -> Iterator[Diagnostic]:
    """Tensors that a sum adds and takes away again (HV0905); in a repeat, those that never learn."""
    for graph in (model.graph, *model.priors.values()):
        sums = linear_forms(graph)
        found = list(cancelled(graph, sums))
        alive = learning(model) if found and graph is model.graph else frozenset()
        places: dict[Span, list[tuple[Node, Edge]]] = {}
        for node, term in found:
            places.setdefault(node.span, []).append((node, term))
        for span, lost in places.items():
            always = {node.index for node, _ in lost} == {n.index for n in graph.nodes if n.span == span and n.inputs}
            dead = [graph.nodes[term.node] for _, term in lost if always or term.node not in alive]
            if not dead:
                continue
            name = next((name for name in dead[0].names if name), None) or _short(dead[0].span.text)
            yield Diagnostic(
                codes.UNREAD_VALUE,
                f"nothing of `{name}` is left in this sum",
                span,
                f"what line {dead[0].span.line} gives is added and taken away again: it gets no gradient from here",
                "terms that do not cancel",
                "remove them, or mend a sign",
            )


def _short(text: str) -> str:
    first, *more = text.splitlines()
    return f"{first[:39]}…" if more or len(first) > 40 else first


def check_unread_latents(model: Model) -> Iterator[Diagnostic]:
    """Latents that do not reach the output (HV0906), and an output that none reaches (HV0318)."""
    graph = model.graph
    alive = reaching(graph, [graph.output.node])
    if not any(latent.node in alive for latent in graph.latents):
        yield Diagnostic(
            errors.NO_LATENT_REACHES,
            "the output depends on no latent",
            graph.nodes[graph.output.node].span,
            "a decoder that gives every image alike",
            "an output that is computed from what a latent drew",
            "use `z` after `z ~ …`, as in `x + (z -> conv(1x1, channels))`",
        )
        return
    if all(latent.node in alive for latent in graph.latents):
        return
    given = {name.id for item in model.resolved.items if isinstance(item, tree.Prior) for name in item.given}
    useful = _spans(graph, alive)
    for latent in graph.latents:
        _, span = _outermost(graph.nodes[latent.node], alive)
        if latent.node not in alive and span not in useful and latent.name not in given:
            useful.add(span)
            yield Diagnostic(
                codes.UNREAD_LATENT,
                f"nothing reads latent `{latent.name}`",
                span,
                "a value that does not reach the output",
                "a latent that the decoder computes with",
                f"use `{latent.name}`, as in `x + ({latent.name} -> conv(1x1, channels))`, or remove it",
            )


def check_posteriors(model: Model) -> Iterator[Diagnostic]:
    """Posteriors that do not see the image (HV0907): an error where none does (HV0317)."""
    graph = model.graph
    seeing = sees_image(graph)
    blind = [latent for latent in graph.latents if latent.posterior.node not in seeing]
    if blind and len(blind) == len(graph.latents):
        yield Diagnostic(
            errors.BLIND_HIERARCHY,
            "no posterior sees the image",
            graph.nodes[blind[0].posterior.node].span,
            f"the posterior of `{blind[0].name}` is computed without the encoder",
            "a posterior that reads what the encoder taps",
            "read `skip` in it, as in `posterior normal(concat(x, skip) -> conv(1x1, 16))`",
        )
        return
    reported: set[Span] = set()
    for latent in blind:
        span = graph.nodes[latent.posterior.node].span
        if span not in reported:
            reported.add(span)
            yield Diagnostic(
                codes.BLIND_POSTERIOR,
                f"the posterior of `{latent.name}` does not see the image",
                span,
                "a posterior that knows no more than the prior: its best rate is 0, and the latent is noise",
                "a posterior that reads what the encoder taps",
                "read `skip` in it, or allow the noise",
            )


def check_untrained_priors(model: Model) -> Iterator[Diagnostic]:
    """Priors with parameters that only a rate would train, which the objective gives no weight (HV0909)."""
    graph = model.graph
    if all(weighs(latent, model.settings.objective) for latent in graph.latents):
        return
    silent = {node.index for _, node in untrained(model)}
    reported: set[Span] = set()
    for latent in graph.latents:
        span = graph.nodes[latent.prior.node].span
        if span in reported or not silent & reaching(graph, [latent.prior.node]):
            continue
        beta = "`beta = 0`" if model.settings.objective.beta == 0 else f"`weight = 0` of `{latent.name}`"
        reported.add(span)
        yield Diagnostic(
            codes.UNTRAINED_PRIOR,
            f"nothing trains the prior of `{latent.name}`",
            span,
            f"{beta}, so that its rate counts for nothing: what is generated comes from a prior as it was initialised",
            "a weight above 0, or a prior without parameters",
            "give its rate a small weight, or write `normal(standard(n))`",
        )


def check_still_norms(model: Model) -> Iterator[Diagnostic]:
    """Batch normalisation of what is alike in every image (HV0912)."""
    reported: set[Span] = set()
    for node in still_norms(model.graph):
        if node.span not in reported:
            reported.add(node.span)
            yield Diagnostic(
                codes.STILL_NORM,
                "batch normalisation of what never varies",
                node.span,
                "one position, alike in every image: the result is the bias, and nothing before it learns",
                "a map, or something that depends on the image",
                "remove it, or let it stand behind the first latent",
            )


def _within(inner: Span, outer: Span) -> bool:
    return inner.source is outer.source and outer.start <= inner.start and inner.end <= outer.end


def _spans(graph: Graph, alive: frozenset[int]) -> set[Span]:
    """The text of everything that some value which counts comes from: its own, and that of all it stands in."""
    spans: set[Span] = set()
    seen: set[int] = set()
    for index in alive:
        node = graph.nodes[index]
        spans.add(node.span)
        scope: GraphScope | None = node.scope
        while scope is not None and id(scope) not in seen:
            seen.add(id(scope))
            spans.add(scope.span)
            scope = scope.parent
    return spans


def _outermost(node: Node, alive: frozenset[int]) -> tuple[Node | GraphScope, Span]:
    """The largest use, binding or repeat around a node of which nothing counts; else the node."""
    place: Node | GraphScope = node
    scope: GraphScope | None = node.scope
    while scope is not None and scope.kind not in ("row", "section", "model"):
        if any(inner.index in alive for inner in scope.nodes()):
            break
        place, scope = scope, scope.parent
    return place, place.span


def check_leaks(model: Model) -> Iterator[Diagnostic]:
    """Whatever depends on the image other than through a latent does not exist in generation."""
    graph = model.graph
    source: list[int | None] = []  # for each node that depends on the image: the operand by which it does
    for node in graph.nodes:
        operand: int | None = None
        role = node.operation.role
        if role is Role.IMAGE:
            operand = node.index
        elif role is Role.LATENT:
            if source[node.inputs[0].node] is not None:
                yield _leak(graph, source, graph.nodes[node.inputs[0].node], "the prior of a latent")
        else:
            for edge in node.inputs:
                if source[edge.node] is not None:
                    operand = edge.node
                    break
        source.append(operand)
    if source[graph.output.node] is not None:
        yield _leak(graph, source, graph.nodes[graph.output.node], "the output")


def _leak(graph: Graph, source: list[int | None], end: Node, what: str) -> Diagnostic:
    path, node = [end], end
    while node.role is not Role.TAP and (before := source[node.index]) is not None and before != node.index:
        node = graph.nodes[before]
        path.append(node)
    steps = " -> ".join(f"`{n.operation.name}` (line {n.span.line})" for n in reversed(path[-6:]))
    reader = path[-2] if len(path) > 1 else path[-1]
    return Diagnostic(
        errors.LEAK,
        f"an encoder feature reaches {what} without a latent between",
        reader.span,
        f"{steps}{' -> …' if len(path) > 6 else ''}",
        "encoder features in posteriors only",
        "what is generated cannot depend on the image: use the feature in `posterior …`, and `z` below it",
    )
