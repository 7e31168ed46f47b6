"""The importance-weighted bound (IWAE, Burda, Grosse & Salakhutdinov 2016), one sample at a time.

With log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x), z_k ~ q: L_K = log (1/K) Σ w_k, at most log p(x), and the
ELBO for K = 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.objective.elbo import ModelBatch, latent_groups, measure


class ImportanceBound:
    """Collects log-weights `(N,)` of a batch as they come; memory does not grow with their number.

    Sums are kept relative to the largest weight so far, in float64.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._largest = torch.tensor(-math.inf, dtype=torch.float64)
        self._sum = torch.tensor(0.0, dtype=torch.float64)  # Σ exp(log w - largest)
        self._sum_of_squares = torch.tensor(0.0, dtype=torch.float64)
        self._sum_of_logs = torch.tensor(0.0, dtype=torch.float64)

    def add(self, log_weight: Tensor) -> None:
        """One more sample of every image."""
        log_weight = log_weight.detach().double()
        if self.samples == 0:
            device = log_weight.device
            self._largest = torch.full_like(log_weight, -math.inf)
            self._sum, self._sum_of_squares = self._sum.to(device), self._sum_of_squares.to(device)
            self._sum_of_logs = self._sum_of_logs.to(device)
        largest = torch.maximum(self._largest, log_weight)
        shrink, new = torch.exp(self._largest - largest), torch.exp(log_weight - largest)
        self._sum = self._sum * shrink + new
        self._sum_of_squares = self._sum_of_squares * shrink**2 + new**2
        self._sum_of_logs = self._sum_of_logs + log_weight
        self._largest = largest
        self.samples += 1

    @property
    def bound(self) -> Tensor:
        """L_K of each image, `(N,)` nats."""
        return self._largest + self._sum.log() - math.log(self.samples)

    @property
    def elbo(self) -> Tensor:
        """The mean log-weight of each image, `(N,)` nats."""
        return self._sum_of_logs / self.samples

    @property
    def effective_sample_size(self) -> Tensor:
        """(Σ w)² / Σ w² of each image, `(N,)`, between 1 and K."""
        return self._sum**2 / self._sum_of_squares


@torch.no_grad()
def importance_bound(model: nn.Module, batches: Iterable[ModelBatch]) -> ImportanceBound:
    """Weigh one posterior sample of the same images for each of `batches`, which differ in their noise."""
    collected = ImportanceBound()
    for batch in batches:
        latents = Traversal.infer(
            latent_groups(model), len(batch.x), batch.noise, densities=True, device=batch.x.device
        )
        distortion = measure(model, batch, latents).distortion
        collected.add(latents.log_weight - distortion)
    return collected
