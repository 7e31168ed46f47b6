"""Raster causality of a second-stage prior, proved from its graph, and what each output position really sees.

Offsets are (row, column) from an output's own position. In raster order an offset is earlier where it is smaller as a
pair, so the latest position that a tensor sees follows step by step: a convolution adds its last tap, a shift adds
itself, strict attention adds the position before. Only zero padding is ever beyond the map, so the proof holds at
every border; a tap that masks or padding take away is no tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from hvdsl.compiler.catalogue.masks import causal_mask
from hvdsl.compiler.catalogue.padding import resolve
from hvdsl.compiler.catalogue.values import integer, positive_pair
from hvdsl.compiler.diagnostics.shapes import NOT_CAUSAL
from hvdsl.compiler.graph import Edge, Graph, Node, Role, Term
from hvdsl.grammar.diagnostics import Diagnostic

Offset: TypeAlias = tuple[int, int]
OWN: Offset = (0, 0)
BEFORE: Offset = (0, -1)  # in raster order; from column 0 it is the last of the row above, which is earlier still


@dataclass(frozen=True, slots=True)
class Reach:
    """The latest position of the codes that a tensor sees, and by which step: `by` looked `tap` further than `source`.

    `tap` is None for a step that looks at the whole map, or at another grid.
    """

    latest: Offset
    by: Node
    tap: Offset | None = OWN
    source: Reach | None = None

    def steps(self) -> Iterator[Reach]:
        """From here back to the codes."""
        step: Reach | None = self
        while step is not None:
            yield step
            step = step.source


def reaches(graph: Graph) -> dict[Edge, Reach]:
    """How late every tensor sees the prior's own codes; tensors that do not see them at all are left out."""
    found: dict[Edge, Reach] = {}
    for node in graph.nodes:
        reach = _reach(node, [found.get(value) for value in node.inputs], graph)
        if reach is not None:
            found.update({Edge(node.index, port): reach for port in range(len(node.shapes))})
    return found


def check_causality(graph: Graph) -> Diagnostic | None:
    """What is wrong with a prior that sees its own or a later position; None if it is causal."""
    reach = reaches(graph).get(graph.output)
    if reach is None or reach.latest < OWN:
        return None
    guilty = _guilty(reach)
    node = guilty.by
    where = f" in `{node.scope.path}`" if node.scope.path else ""
    return Diagnostic(
        NOT_CAUSAL,
        f"the prior of `{graph.name}` sees {'its own' if reach.latest == OWN else 'a later'} position",
        node.span,
        f"`{node.operation.name}`{where} {_reads(guilty.tap)}",
        "logits that depend on codes before their own position in raster order only",
        "mask the convolution, `mask = causal(exclude)`; or pad above and to the left only, then `shift`",
    )


def taps(node: Node, graph: Graph) -> tuple[Offset, ...] | None:
    """The positions that an output reads of the input's map; None where that is not the same everywhere.

    For a convolution these are the kernel elements that its mask leaves.
    """
    if node.operation.name in ("conv", "depthwise"):
        return _kernel_taps(node, graph)
    if node.operation.name == "shift":
        return ((-integer(node.args, "down"), -integer(node.args, "right")),)
    field = node.operation.field
    if field is None:
        return (OWN,)
    windows = field([graph.shape(value) for value in node.inputs], node.args)
    if any(w.everywhere or w.stride != 1 or w.up != 1 for w in windows):
        return None
    rows, columns = (range(w.first, w.last + 1) for w in windows)
    return tuple((row, column) for row in rows for column in columns)


def attention_kind(node: Node) -> str:
    """`strict`, `inclusive` or `none`."""
    causal = node.args["causal"]
    return causal.name if isinstance(causal, Term) else "none"


def own_codes(graph: Graph) -> Node:
    """The node that brings in the codes which the prior is of."""
    return next(n for n in graph.nodes if n.role is Role.CODES)


def _kernel_taps(node: Node, graph: Graph) -> tuple[Offset, ...] | None:
    shape = graph.shape(node.inputs[0])
    kernel, stride, dilation = (positive_pair(node.args, name) for name in ("kernel", "stride", "dilation"))
    if stride != (1, 1):
        return None
    padding = resolve(node.args["pad"], shape, kernel, stride, dilation)
    if padding.reflect:
        return None
    mask = causal_mask(node.args, 1, 1)
    found = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            tap = (row * dilation[0] - padding.top, column * dilation[1] - padding.left)
            before = tap < OWN if mask is None or not mask.mirror else tap > OWN
            if mask is None or before or (tap == OWN and mask.at != "exclude"):
                found.append(tap)
    return tuple(found)


def _reach(node: Node, inputs: list[Reach | None], graph: Graph) -> Reach | None:
    if node.role is Role.CODES:
        return Reach(OWN, node)
    if node.operation.name == "coordinates":  # of its input it takes the size only
        return None
    seen = [reach for reach in inputs if reach is not None]
    if not seen:
        return None
    if node.operation.name == "attention":
        return _through_attention(node, inputs, graph)
    offsets = taps(node, graph)
    latest = max(seen, key=lambda reach: reach.latest)
    if offsets is None:
        return _everywhere(node, latest, graph)
    tap = max(offsets, default=BEFORE)
    return Reach(_add(latest.latest, tap), node, tap, latest)


def _through_attention(node: Node, inputs: list[Reach | None], graph: Graph) -> Reach:
    query, *looked_at = inputs
    kind = attention_kind(node)
    found = [] if query is None else [Reach(query.latest, node, OWN, query)]
    for reach in looked_at:
        if reach is not None and kind == "none":
            found.append(_everywhere(node, reach, graph))
        elif reach is not None:
            tap = BEFORE if kind == "strict" else OWN
            found.append(Reach(_add(reach.latest, tap), node, tap, reach))
    return max(found, key=lambda reach: reach.latest)


def _everywhere(node: Node, source: Reach, graph: Graph) -> Reach:
    """It sees the last position, whichever the own one is."""
    _, height, width = graph.shape(node.inputs[0])
    return Reach(_add(source.latest, (height, width)), node, None, source)


def _add(a: Offset, b: Offset) -> Offset:
    return a[0] + b[0], a[1] + b[1]


def _guilty(reach: Reach) -> Reach:
    """The step that looks furthest ahead; where none does, the first one that lets the own position in."""
    steps = [step for step in reach.steps() if step.source is not None]
    ahead = max(steps, key=lambda step: (step.tap is None, step.tap or OWN), default=reach)
    if ahead.tap is None or ahead.tap > OWN:
        return ahead
    spatial = [step for step in steps if step.by.operation.field is not None]
    return (spatial or steps or [reach])[-1]


def _reads(tap: Offset | None) -> str:
    if tap is None:
        return "looks at the whole map"
    if tap == OWN:
        return "reads the own position: tap (0, 0)"
    rows, columns = tap
    parts = [f"{abs(rows)} {'row' if abs(rows) == 1 else 'rows'} {'below' if rows > 0 else 'above'}"] if rows else []
    if columns:
        parts.append(
            f"{abs(columns)} {'column' if abs(columns) == 1 else 'columns'} to the {'right' if columns > 0 else 'left'}"
        )
    return f"reads {' and '.join(parts)}: tap ({rows}, {columns})"
