"""Flows after a posterior: the steps that transform its sample, and whether their log-determinant is what they say."""

from __future__ import annotations

from dataclasses import dataclass

from hvdsl.compiler.analysis.autoregression import Seen, seen_of
from hvdsl.compiler.catalogue.values import term
from hvdsl.compiler.diagnostics import flows as codes
from hvdsl.compiler.graph import Graph, Node, Value
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics

MASKED = ("conv", "depthwise")


@dataclass(frozen=True, slots=True)
class Flow:
    """What makes a latent's value of a sample: `start`, the sample, and the `iaf` nodes, first to last."""

    start: Value
    steps: tuple[Node, ...]

    @property
    def scales(self) -> tuple[tuple[str, Value], ...]:
        """Of the steps that change volume: the form, and the tensor `s` that says by how much."""
        return tuple((term(n.args, "form").name, n.inputs[2]) for n in self.steps if len(n.inputs) > 2)


def flow_of(graph: Graph, latent: Node) -> Flow | Node | None:
    """The flow of a latent, wherever it is drawn; None without one; a node that is no step of a flow, if any."""
    if len(latent.inputs) < 3:
        return None
    steps: list[Node] = []
    upwards = drawn_upwards(graph, latent)
    value = latent.inputs[2] if upwards is None else upwards.inputs[0]
    while graph.nodes[value.node].op == "iaf":
        steps.insert(0, graph.nodes[value.node])
        value = graph.nodes[value.node].inputs[0]
    node = graph.nodes[value.node]
    if node.op == "sample" and steps:
        return Flow(value, tuple(steps))
    return None if node.op == "sample" else node


def drawn_upwards(graph: Graph, latent: Node) -> Node | None:
    """The tap by which the encoder publishes this latent's draw and posterior, where it is drawn on the way up."""
    if len(latent.inputs) < 3:
        return None
    node = graph.nodes[latent.inputs[2].node]
    return node if node.op == "tap" else None


def check_flows(graph: Graph, found: Diagnostics) -> None:
    """Add what is wrong with the flows of a model to `found`; what a recipe gets wrong everywhere is said once."""
    said: set[tuple[str, str]] = set()
    for group in graph.latents:
        flow = flow_of(graph, graph.nodes[group.node])
        if flow is None:
            continue
        for diagnostic in _problems(graph, group.name, flow):
            key = (diagnostic.code.id, str(diagnostic.span))
            if key not in said:
                said.add(key)
                found.add(diagnostic)


def _problems(graph: Graph, name: str, flow: Flow | Node) -> list[Diagnostic]:
    if isinstance(flow, Node):
        return [
            Diagnostic(
                codes.NO_LOG_DETERMINANT,
                f"`{flow.op}` is no step of a flow",
                flow.span,
                f"`{flow.op}` between the posterior of `{name}` and its value",
                "steps whose log-determinant is known: `iaf(…) { … }`",
                "compute inside the block of an `iaf`, or write the posterior so that it needs no flow",
            )
        ]
    problems = (_leak(graph, node) for node in flow.steps)
    return [p for p in problems if p is not None]


def _leak(graph: Graph, node: Node) -> Diagnostic | None:
    """Why a step is not strictly autoregressive, if it is not."""
    z, *made = node.inputs
    seen = seen_of(graph, z, node.index)
    for value in made:
        of_z = seen.get(value)
        if of_z is None:
            continue
        if of_z.mixed_by is not None:
            culprit = graph.nodes[of_z.mixed_by]
            return _diagnostic(
                culprit,
                "after it, positions see others of z both before and after their own",
                "only positions before, in raster order (or only after, if mirrored)",
                "say `mask = causal(…)`, with one `mirror` in the whole block, and keep the map's size",
            )
        channel = next((c for c, bits in enumerate(of_z.own) if bits >> c), None)
        if channel is not None:
            culprit = _closes(graph, node, seen)
            return _diagnostic(
                culprit,
                f"channel {channel} of what the block gives sees channel {of_z.own[channel].bit_length() - 1} of z "
                "at its own position",
                "at its own position, only earlier channels",
                "say `mask = causal(before)` or `causal(exclude)` in one convolution of the block, "
                "at most `upto` in others",
            )
    return None


def _closes(graph: Graph, step: Node, seen: dict[Value, Seen]) -> Node:
    """What to blame for channels: what first sees later ones, else the block's first convolution, else the step."""
    z = step.inputs[0]
    inside = sorted({v.node for v in seen if z.node < v.node < step.index})
    width = len(seen[z].own)
    for index in inside:
        own = seen[Value(index)].own
        if any(bits >> ((c * width // len(own)) + 1) for c, bits in enumerate(own)):
            return graph.nodes[index]
    return next((graph.nodes[i] for i in inside if graph.nodes[i].op in MASKED), step)


def _diagnostic(culprit: Node, found: str, expected: str, help: str) -> Diagnostic:
    message = f"`{culprit.op}` makes this flow not autoregressive"
    return Diagnostic(codes.NOT_AUTOREGRESSIVE, message, culprit.span, found, expected, help)
