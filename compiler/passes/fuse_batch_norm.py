"""Let a batch norm and the SiLU behind it keep one map instead of two.

    batch_norm -> silu
    ==>
    batch_norm_silu

The fused operation has the batch norm's parameters under the same names and gives the same values; its backward pass
computes the normalised map again instead of keeping it.
"""

from __future__ import annotations

from hvdsl.compiler.graph import Graph, Value
from hvdsl.compiler.passes.draft import Draft

_SILU = ("silu", "swish")


def fuse_batch_norm(graph: Graph) -> Graph:
    """Fuse each batch norm that a SiLU of the same scope alone reads."""
    draft = Draft(graph)
    readers = draft.readers()
    for norm in [node for node in draft.root.nodes() if node.op == "batch_norm"]:
        reading = readers[Value(norm.index)]
        if len(reading) != 1 or reading[0].op not in _SILU or reading[0].scope is not norm.scope:
            continue
        silu = reading[0]
        norm.op, norm.names = "batch_norm_silu", silu.names
        draft.redirect(Value(silu.index), Value(norm.index))
        draft.remove(silu)
    return draft.graph()
