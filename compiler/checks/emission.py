"""What emitter and sampler could not write: priors that see too much or have no steps, shared instances that differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvdsl.compiler.catalogue.rules import integer
from hvdsl.compiler.checks.flows import MOST_CHANNELS
from hvdsl.compiler.diagnostics.limits import TENSOR_TOO_LARGE
from hvdsl.compiler.diagnostics.shapes import NOT_CAUSAL
from hvdsl.compiler.graph import Graph, GraphScope
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic, SpecError

if TYPE_CHECKING:
    from hvdsl.compiler.analysis.causality import Reach
    from hvdsl.compiler.catalogue.table import Offset


def check_causality(model: Model) -> Iterator[Diagnostic]:
    """Priors that see their own or a later position (HV0509)."""
    for graph in model.priors.values():
        diagnostic = not_causal(graph)
        if diagnostic is not None:
            yield diagnostic


def not_causal(graph: Graph) -> Diagnostic | None:
    """Name the step that lets a prior see too much; None if it is causal."""
    from hvdsl.compiler.analysis.causality import own_codes, reaches  # most specs have no priors
    from hvdsl.compiler.catalogue.joins import ATTENTION

    reach = reaches(graph).get(graph.output)
    if reach is None or reach.latest < (0, 0):
        return None
    if reach.latest == (0, 0) and own_codes(graph).args["depth"] != 1:
        return _against_depths(graph)
    guilty = _guilty(reach)
    node = guilty.by
    where = f" in `{node.scope.path}`" if node.scope.path else ""
    return Diagnostic(
        NOT_CAUSAL,
        f"the prior of `{graph.name}` sees {'its own' if reach.latest == (0, 0) else 'a later'} position",
        node.span,
        f"`{node.operation.name}`{where} {_reads(guilty.tap)}",
        "logits that depend on codes before their own position in raster order only",
        "give it `causal = strict`: each position then sees those before it alone"
        if node.operation is ATTENTION
        else "mask the convolution, `mask = causal(exclude)`; or pad above and to the left only, then `shift`",
    )


def _against_depths(graph: Graph) -> Diagnostic | None:
    """Say which depth sees itself or a later one at its own position, which may see those before it."""
    from hvdsl.compiler.analysis.causality import depths_seen, own_codes

    own, output = own_codes(graph), graph.nodes[graph.output.node]
    depth = integer(own.args, "depth")
    if own.shapes[0][0] > MOST_CHANNELS:
        message, what = "this makes a tensor of unreasonable size", f"{own.shapes[0][0]:,} channels of one-hot codes"
        return Diagnostic(TENSOR_TOO_LARGE, message, own.span, what, f"at most {MOST_CHANNELS:,}, for several depths")
    seen = depths_seen(graph).get(graph.output, ())
    each = len(seen) // depth
    late = next((channel // each for channel, bits in enumerate(seen) if bits >> channel // each), None)
    if late is None:
        return None
    latest = max(seen[late * each : (late + 1) * each]).bit_length() - 1
    return Diagnostic(
        NOT_CAUSAL,
        f"the prior of `{graph.name}` sees codes against the order of their depths",
        graph.nodes[output.inputs[0].node].span,
        f"depth {late} sees depth {latest} at its own position (they count from 0)",
        "at its own position, only the depths before it: the first none, the second the first one",
        "give each depth a head of its own, and earlier codes by `first, second = chunk(2)` of the codes",
    )


def _guilty(reach: Reach) -> Reach:
    """The step that looks furthest ahead; where none does, the first one that lets the own position in."""
    steps = [step for step in reach.steps() if step.source is not None]
    ahead = max(steps, key=lambda step: (step.tap is None, step.tap or (0, 0)), default=reach)
    if ahead.tap is None or ahead.tap > (0, 0):
        return ahead
    spatial = [step for step in steps if step.by.operation.reads_around]
    return (spatial or steps or [reach])[-1]


def _reads(tap: Offset | None) -> str:
    if tap is None:
        return "looks at the whole map"
    if tap == (0, 0):
        return "reads the own position: tap (0, 0)"
    rows, columns = tap
    parts = [f"{abs(rows)} {'row' if abs(rows) == 1 else 'rows'} {'below' if rows > 0 else 'above'}"] if rows else []
    if columns:
        parts.append(
            f"{abs(columns)} {'column' if abs(columns) == 1 else 'columns'} to the {'right' if columns > 0 else 'left'}"
        )
    return f"reads {' and '.join(parts)}: tap ({rows}, {columns})"


def check_stepwise(model: Model) -> Iterator[Diagnostic]:
    """What of causal priors has no form for one position (HV0801)."""
    for graph in model.priors.values():
        if not_causal(graph) is not None:  # which has been said
            continue
        from hvdsl.compiler.emit.stepwise.depths import parted  # most specs have no priors
        from hvdsl.compiler.emit.stepwise.plan import plan

        try:
            plan(parted(graph).shared)
        except SpecError as error:
            yield from error.diagnostics


def check_shared(model: Model) -> Iterator[Diagnostic]:
    """What computes something else at another use (HV0805): such an instance cannot be one object of one class."""
    for graph in (model.graph, *model.priors.values()):
        if not _has_shared(graph.root):
            continue
        from hvdsl.compiler.emit import check_classes  # most specs share nothing: they need no emitter

        try:
            check_classes(graph)
        except SpecError as error:
            yield from error.diagnostics


def _has_shared(scope: GraphScope) -> bool:
    return any(isinstance(m, GraphScope) and (m.kind == "shared" or _has_shared(m)) for m in scope.members)
