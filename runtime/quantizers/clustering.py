"""The nearest of a table's rows, and Lloyd's algorithm over the features of all processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.ground.tensors import Agreement

ITERATIONS = 10
"""Of k-means."""

BUDGET_BYTES = 4 * 2**20
"""Most memory that distances take at once. On a CPU it decides the speed too: what fits a cache is read from it."""

_BLOCK = 128  # codes whose least distance is found first: `amin` is vectorised on CPUs, `argmin` is not


@torch.no_grad()
def nearest_rows(vectors: Tensor, codes: Tensor, budget: int = BUDGET_BYTES) -> Tensor:
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
    if torch.compiler.is_exporting():  # a graph has no loop over vectors of an unknown number
        return torch.addmm(codes.square().sum(1), vectors, codes.t(), alpha=-2).argmin(1)
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


@torch.no_grad()
def kmeans(
    rows: Tensor, means: Tensor, agreement: Agreement, *, cosine: bool = False, iterations: int = ITERATIONS
) -> tuple[Tensor, Tensor]:
    """Move `means` `(K, D)` to the means of the rows nearest to them, several times.

    A mean without rows stays where it is. Under `cosine` the means are put back on the unit sphere each time.

    Returns:
        The means, and how many rows each was the mean of, `(K,)`.
    """
    counts = means.new_zeros(len(means))
    for _ in range(iterations):
        chosen = nearest_rows(rows, means)
        counts = agreement.sum(occurrences(chosen, len(means), means))
        sums = agreement.sum(torch.zeros_like(means).index_add_(0, chosen, rows))
        new = sums / counts.clamp_min(1)[:, None]
        new = F.normalize(new, dim=1) if cosine else new
        means = torch.where(counts[:, None] > 0, new, means)
    return means, counts


def spread_rows(rows: Tensor, n: int, agreement: Agreement) -> Tensor:
    """`n` different rows of rank 0, the same on every rank; where there are fewer, some more than once."""
    generator = torch.Generator().manual_seed(0)  # which rows is of no consequence, but every run takes the same
    order = torch.randperm(len(rows), generator=generator)
    order = order.repeat(-(-n // len(rows)))[:n].to(rows.device)
    return agreement.sum(rows[order] if agreement.leads else rows.new_zeros(n, rows.shape[1]))


def occurrences(codes: Tensor, classes: int, like: Tensor) -> Tensor:
    """How often each of `classes` occurs among `codes` `(M,)`: `(classes,)`, of the type of `like`.

    `bincount` would look for the largest code, and so wait for the device.
    """
    return like.new_zeros(classes).scatter_add_(0, codes, like.new_ones(len(codes)))
