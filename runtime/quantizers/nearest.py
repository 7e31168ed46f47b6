"""The nearest of many codes to each vector, in bounded memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BUDGET_BYTES = 4 * 2**20
"""Most memory that distances take at once. On a CPU it decides the speed too: what fits a cache is read from it."""

_BLOCK = 128  # codes whose least distance is found first: `amin` is vectorised on CPUs, `argmin` is not


@torch.no_grad()
def nearest(vectors: Tensor, codes: Tensor, budget: int = BUDGET_BYTES) -> Tensor:
    """The place of the code nearest to each vector, in squared Euclidean distance; the lowest place among equals.

    |v - c|² = |v|² - 2 v·c + |c|², of which |v|² is the same for every code and left out. |c|² goes into the product
    as one more channel, against a 1 in each vector.

    Args:
        vectors: `(M, D)` float32 or wider.
        codes: `(K, D)` of the same type.
        budget: Bytes that the distances of one chunk of vectors may take; at least one vector's are computed.

    Returns:
        `(M,)` int64.
    """
    block = min(_BLOCK, len(codes))
    blocks = -(-len(codes) // block)
    table = torch.cat([codes.mul(-2), codes.square().sum(1, keepdim=True)], 1)
    padding = blocks * block - len(codes)
    if padding:
        far = table.new_zeros(padding, table.shape[1])
        far[:, -1] = torch.inf
        table = torch.cat([table, far])
    rows = max(1, min(len(vectors), budget // (len(table) * table.element_size())))
    distances = table.new_empty(rows, len(table))
    places = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    for start in range(0, len(vectors), rows):
        chunk = F.pad(vectors[start : start + rows], (0, 1), value=1.0)
        here = distances[: len(chunk)]
        torch.mm(chunk, table.t(), out=here)
        places[start : start + rows] = _first_minimum(here.view(len(chunk), blocks, block))
    return places


def _first_minimum(distances: Tensor) -> Tensor:
    """The place of the first least entry of each row of `(M, blocks, block)`, counted over both last axes."""
    best = distances.amin(2).argmin(1)
    within = distances[torch.arange(len(distances), device=distances.device), best]
    return best * distances.shape[2] + within.argmin(1)
