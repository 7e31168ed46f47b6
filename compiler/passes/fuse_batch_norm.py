"""Let a batch norm and the SiLU behind it keep one map instead of two.

    batch_norm -> silu
    ==>
    batch_norm_silu

The fused operation has the batch norm's parameters under the same names and gives the same values; its backward pass
computes the normalised map again instead of keeping it.
"""

from __future__ import annotations

from hvdsl.compiler.catalogue.activations import SILU, SWISH
from hvdsl.compiler.catalogue.norms import BATCH_NORM, BATCH_NORM_SILU
from hvdsl.compiler.graph import Edge, Graph
from hvdsl.compiler.passes.draft import Draft

_SILU = (SILU, SWISH)


def fuse_batch_norm(graph: Graph) -> Graph:
    """Fuse each batch norm that a SiLU of the same scope alone reads."""
    draft = Draft(graph)
    readers = draft.readers()
    instead: dict[Edge, Edge] = {}
    for norm in [node for node in draft.root.nodes() if node.operation is BATCH_NORM]:
        reading = readers[Edge(norm.index)]
        if len(reading) != 1 or reading[0].operation not in _SILU or reading[0].scope is not norm.scope:
            continue
        silu = reading[0]
        norm.operation, norm.names = BATCH_NORM_SILU, silu.names
        instead[Edge(silu.index)] = Edge(norm.index)
        draft.remove(silu)
    draft.redirect(instead)
    return draft.graph()
