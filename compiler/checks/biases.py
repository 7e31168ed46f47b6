"""Biases without effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hvdsl.compiler.diagnostics import warnings as codes
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic


def check_biases(model: Model) -> Iterator[Diagnostic]:
    """A batch normalisation takes away what a bias before it adds."""
    graph = model.graph
    cancelling = [node for node in graph.nodes if node.operation.cancels_bias]
    readers = Counter(edge.node for node in graph.nodes for edge in node.inputs) if cancelling else Counter()
    for node in cancelling:
        if readers[node.inputs[0].node] > 1:  # a shortcut keeps the bias
            continue
        before = graph.nodes[node.inputs[0].node]
        bias = before.operation.bias
        if bias is not None and before.args[bias] is True and bias not in before.stated:
            yield Diagnostic(
                codes.BIAS_BEFORE_BATCH_NORM,
                "this bias has no effect",
                before.span,
                f"`{before.operation.name}` with a bias, then `{node.operation.name}`",
                "`bias = no`",
                "batch normalisation takes it away again; its gradient is rounding noise. "
                "Where it has to be there all the same, say `bias = yes`",
            )
