"""Lloyd's algorithm over the features of all ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.ground.agreement import Agreement
from hvdsl.runtime.quantizers.nearest import nearest

ITERATIONS = 10


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
        chosen = nearest(rows, means)
        counts = agreement.sum(torch.bincount(chosen, minlength=len(means)).to(means))
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
