"""Flows after a posterior: the steps that transform its sample, and whether their log-determinant is what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hvdsl.compiler.diagnostics import names as codes
from hvdsl.compiler.diagnostics.limits import TENSOR_TOO_LARGE
from hvdsl.compiler.graph import Edge, Graph, Node
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic

if TYPE_CHECKING:
    from hvdsl.compiler.analysis.autoregression import Seen


MOST_CHANNELS = 32_768  # within a flow, where each is followed by itself


def check_flows(model: Model) -> Iterator[Diagnostic]:
    """What is wrong with the flows of a model; what a recipe gets wrong everywhere is said once."""
    graph = model.graph
    reported: set[tuple[str, str]] = set()
    for group in graph.latents:
        for step in group.flow.steps if group.flow else ():
            diagnostic = _leak(graph, graph.nodes[step])
            if diagnostic is None:
                continue
            key = (diagnostic.code.id, str(diagnostic.span))
            if key not in reported:
                reported.add(key)
                yield diagnostic


def _leak(graph: Graph, node: Node) -> Diagnostic | None:
    """Why a step is not strictly autoregressive, if it is not."""
    from hvdsl.compiler.analysis.autoregression import seen_of  # most specs have no flows

    z, *block = node.inputs
    wide = next((n for n in graph.nodes[z.node : node.index] if n.shapes and n.shapes[0][0] > MOST_CHANNELS), None)
    if wide is not None:
        message, what = "this makes a tensor of unreasonable size", f"{wide.shapes[0][0]:,} channels within a flow"
        return Diagnostic(TENSOR_TOO_LARGE, message, wide.span, what, f"at most {MOST_CHANNELS:,}")
    seen = seen_of(graph, z, node.index)
    for edge in block:
        of_z = seen.get(edge)
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


def _closes(graph: Graph, step: Node, seen: Mapping[Edge, Seen]) -> Node:
    """What to blame for channels: what first sees later ones, else the block's first convolution, else the step."""
    z = step.inputs[0]
    inside = sorted({v.node for v in seen if z.node < v.node < step.index})
    width = len(seen[z].own)
    for index in inside:
        own = seen[Edge(index)].own
        if any(bits >> ((c * width // len(own)) + 1) for c, bits in enumerate(own)):
            return graph.nodes[index]
    return next((graph.nodes[i] for i in inside if graph.nodes[i].operation.reads_around), step)


def _diagnostic(culprit: Node, found: str, expected: str, help: str) -> Diagnostic:
    message = f"`{culprit.operation.name}` makes this flow not autoregressive"
    return Diagnostic(codes.NOT_AUTOREGRESSIVE, message, culprit.span, found, expected, help)
