"""Which positions of a map can be drawn at once."""

from __future__ import annotations

from hvdsl.compiler.catalogue.reads import Offset
from hvdsl.compiler.emit.stepwise.flow import Op
from hvdsl.compiler.emit.stepwise.plan import Attention, Codes, Plan, Taps
from hvdsl.compiler.graph import Graph


def skew(plan: Plan, graph: Graph) -> int | None:
    """By how many columns each row falls behind the one above so that all go on at once; None with attention.

    Positions (i, j) of equal j + skew · i are independent where every tap (row, column) above has column < -row · skew.
    """
    if any(isinstance(unit, Attention) for unit in plan.units):
        return None
    reach = [0]
    for unit in plan.units:
        ops = unit.convolutions if isinstance(unit, Codes) else [unit.convolution] if isinstance(unit, Taps) else []
        reach += [-(-column // -row) for op in ops for row, column in _offsets(op, graph) if row < 0]
    return max(reach) + 1


def _offsets(op: Op, graph: Graph) -> list[Offset]:
    [*_, reads] = op.node.operation.positions([graph.shape(edge) for edge in op.node.inputs], op.node.args)
    offsets = reads.offsets
    return [(row - op.shift[0], column - op.shift[1]) for row, column in offsets or ()]
