"""Codebooks: K vectors per level, the nearest of which stands for a feature (VQ-VAE, van den Oord et al. 2017).

Own code, and not the well-kept `vector-quantize-pytorch`: there the statistics move inside `forward`, so that
activation checkpointing moves them twice, gradient accumulation once per part, and a skipped step all the same; here
they move once per applied step. Its straight-through gradient also grows with the depth of a residual quantizer, its
one-hot tables need M x K numbers, and it brings four more packages. Formulas agree with it and with the published
VQ-VAE-2; the tests hold recorded numbers of both.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.ground.tensors import Gradient, passed
from hvdsl.runtime.layers.init import Fill, gaussian, scaled, uniform
from hvdsl.runtime.quantizers.base import LOWER_RATE, Quantized, QuantizedRows, Quantizer
from hvdsl.runtime.quantizers.clustering import kmeans, nearest_rows, spread_rows

Distance = Literal["euclidean", "cosine"]
Start = Literal["standard", "kmeans"]


class Codebook(Quantizer):
    """K codes of D channels for each of `depth` levels, each level quantizing what the levels before left over.

    Residual quantization: the value is the sum of the levels' codes (Zeghidour et al. 2021, algorithm 1). However deep,
    the gradient passes to the feature once.

    Args:
        codes_per_level: K.
        dim: D.
        grid: Height and width of the latent.
        depth: Codes per position.
        shared: One table for all levels.
        distance: `cosine` puts features and codes on the unit sphere first; the value is the unit code.
        start: `kmeans` takes the first training batch's k-means for codes.
    """

    def __init__(
        self,
        codes_per_level: int,
        dim: int,
        grid: tuple[int, int],
        *,
        depth: int = 1,
        shared: bool = False,
        distance: Distance = "euclidean",
        start: Start = "standard",
    ) -> None:
        super().__init__(codes_per_level, dim, grid, depth)
        self.distance, self.start = distance, start
        self.tables = 1 if shared else depth
        self._begun = False
        self.started: Tensor
        if start == "kmeans":
            self.register_buffer("started", torch.zeros(1))

    @abstractmethod
    def table(self, level: int) -> Tensor:
        """The codes of one level, `(K, D)`."""

    @abstractmethod
    def begin(self, level: int, means: Tensor, counts: Tensor) -> None:
        """Take the means `(K, D)` of clusters of `counts` `(K,)` members for codes."""

    @property
    def remedy(self) -> str:
        return LOWER_RATE if self.start == "kmeans" else f"start from k-means (`start = kmeans`) or {LOWER_RATE}"

    def quantize_rows(self, rows: Tensor, gradient: Gradient) -> QuantizedRows:
        rows = F.normalize(rows, dim=1) if self.distance == "cosine" else rows
        starting = self.start == "kmeans" and self.training and self._starts(rows)
        value = torch.zeros_like(rows)
        left, inputs, codes = rows, [], []
        commitment = rows.new_zeros(rows.shape[0])
        codebook: Tensor | None = None
        for level in range(self.depth):
            if starting and level < self.tables:
                self._start(level, left.detach())
            table = self.table(level)
            chosen = nearest_rows(left.detach(), table.detach())
            code = F.embedding(chosen, table)
            commitment = commitment + (code.detach() - left).square().mean(1)
            if code.requires_grad:
                pull = (code - left.detach()).square().mean(1)
                codebook = pull if codebook is None else codebook + pull
            codes.append(chosen)
            inputs.append(left.detach())
            left, value = left - code.detach(), value + code.detach()
        if starting:
            self.started.fill_(1)
            self._begun = True
        return QuantizedRows(passed(rows, value, gradient), torch.stack(codes, 1), commitment, codebook, tuple(inputs))

    def look_up_rows(self, codes: Tensor) -> Tensor:
        return torch.stack([F.embedding(codes[:, level], self.table(level)) for level in range(self.depth)]).sum(0)

    def mean_code(self) -> Tensor:
        return torch.stack([self.table(level).mean(0) for level in range(self.depth)]).sum(0)

    def _starts(self, rows: Tensor) -> bool:
        """Whether the codes begin with these rows: the first batch of which all features are finite, on every rank.

        Asked of the device only until they have begun.
        """
        self._begun = self._begun or bool(self.started)
        return not self._begun and bool(self.agreement.sum((~rows.isfinite()).sum().float()) == 0)

    @torch.no_grad()
    def _start(self, level: int, rows: Tensor) -> None:
        cosine = self.distance == "cosine"
        seeds = spread_rows(rows, self.codes_per_level, self.agreement)
        means, counts = kmeans(rows, seeds, self.agreement, cosine=cosine)
        self.begin(level, means, counts)


class EmaCodebook(Codebook):
    """Codes that follow exponential averages of what is assigned to them (VQ-VAE-2, Razavi et al. 2019, section 3.1).

    After each applied step, with n_i features of sum s_i assigned to code i in the whole batch:

        count_i ← γ count_i + (1 - γ) n_i,  sum_i ← γ sum_i + (1 - γ) s_i
        code_i ← sum_i / (Σ count · (count_i + ε) / (Σ count + K ε))

    Counts start at 1 and sums at the codes, so that they agree. From counts of 0, as released code has them, a code
    that is chosen at first is thrown up to 1 / (1 - γ) times as far out as it began, one that is not γ / ε times.
    A published checkpoint brings its own counts and sums and goes on by the same formula.

    Args:
        decay: γ.
        eps: ε.
        expire: A code whose count falls below this, in features per step, starts anew as a feature of the batch, its
            count and sum with it. 0: never.
    """

    def __init__(
        self,
        codes_per_level: int,
        dim: int,
        grid: tuple[int, int],
        *,
        decay: float = 0.99,
        eps: float = 1e-5,
        expire: float = 0.0,
        depth: int = 1,
        shared: bool = False,
        distance: Distance = "euclidean",
        start: Start = "standard",
    ) -> None:
        super().__init__(codes_per_level, dim, grid, depth=depth, shared=shared, distance=distance, start=start)
        self.decay, self.eps, self.expire = decay, eps, expire
        self.codes: Tensor
        self.sums: Tensor
        self.counts: Tensor
        self.register_buffer("codes", torch.empty(self.tables, codes_per_level, dim))
        self.register_buffer("sums", torch.empty(self.tables, codes_per_level, dim))
        self.register_buffer("counts", torch.empty(self.tables, codes_per_level))
        self._sums: Tensor | None = None
        self._rows: list[tuple[Tensor, ...]] = []

    def initial(self, fill: Fill) -> None:
        fill("codes", gaussian(1.0), self.dim)
        if self.distance == "cosine":
            self.codes.copy_(F.normalize(self.codes, dim=2))
        self.sums.copy_(self.codes)
        self.counts.fill_(1)

    @property
    def remedy(self) -> str:
        return super().remedy if self.expire > 0 else f"let dead codes expire (`expire = 0.1`), {super().remedy}"

    def table(self, level: int) -> Tensor:
        return self.codes[level % self.tables]

    def begin(self, level: int, means: Tensor, counts: Tensor) -> None:
        self.counts[level] = counts.clamp_min(1)  # an empty cluster keeps its mean: its sum must agree with a count
        self.sums[level] = means * self.counts[level, :, None]
        self._refresh(level)

    def observe(self, quantized: Quantized) -> None:
        super().observe(quantized)
        levels = zip(quantized.rows, quantized.codes.transpose(0, 1).flatten(1), strict=True)
        sums = [rows.new_zeros(self.codes_per_level, self.dim).index_add_(0, codes, rows) for rows, codes in levels]
        together = torch.stack(sums)
        self._sums = together if self._sums is None else self._sums + together
        if self.expire > 0:
            self._rows.append(quantized.rows)

    @torch.no_grad()
    def update(self, applied: Tensor) -> None:
        learned = (self.codes, self.sums, self.counts)
        before = [tensor.clone() for tensor in learned]
        counts = self._summed(applied)
        sums = self.sums.new_zeros(self.depth, *self.sums.shape[1:]) if self._sums is None else self._sums
        sums = self.agreement.sum(sums)
        for depth in range(self.depth):  # a shared table takes one decay for each level, in their order
            level = depth % self.tables
            self.counts[level].mul_(self.decay).add_(counts[depth], alpha=1 - self.decay)
            self.sums[level].mul_(self.decay).add_(sums[depth], alpha=1 - self.decay)
        for level in range(self.tables):
            self._refresh(level)
            if self.expire > 0:
                self._revive(level)
        for tensor, kept in zip(learned, before, strict=True):
            tensor.copy_(torch.where(applied, tensor, kept))
        self._sums, self._rows = None, []

    def _refresh(self, level: int) -> None:
        counts = self.counts[level]
        total = counts.sum()
        smoothed = (counts + self.eps) / (total + self.codes_per_level * self.eps) * total
        codes = self.sums[level] / smoothed[:, None]
        self.codes[level] = F.normalize(codes, dim=1) if self.distance == "cosine" else codes

    def _revive(self, level: int) -> None:
        """Put features of this step, rank 0's for all ranks, where codes are dead."""
        fresh = torch.zeros_like(self.codes[level])
        if self.agreement.leads:
            rows = torch.cat([levels[level] for levels in self._rows])
            fresh = rows[torch.randint(len(rows), (self.codes_per_level,), device=rows.device)]
        fresh = self.agreement.sum(fresh)
        dead = self.counts[level] < self.expire
        self.codes[level] = torch.where(dead[:, None], fresh, self.codes[level])
        self.sums[level] = torch.where(dead[:, None], fresh * self.expire, self.sums[level])
        self.counts[level] = torch.where(dead, torch.full_like(self.counts[level], self.expire), self.counts[level])


class GradientCodebook(Codebook):
    """Codes trained by the gradient of |sg(feature) - code|² (VQ-VAE, van den Oord et al. 2017, equation 3).

    They start uniform on ±1/K.

    Args:
        orthogonal: Weight of `orthogonality` in the codebook's loss.
    """

    def __init__(
        self,
        codes_per_level: int,
        dim: int,
        grid: tuple[int, int],
        *,
        orthogonal: float = 0.0,
        depth: int = 1,
        shared: bool = False,
        distance: Distance = "euclidean",
        start: Start = "standard",
    ) -> None:
        super().__init__(codes_per_level, dim, grid, depth=depth, shared=shared, distance=distance, start=start)
        self.orthogonal = orthogonal
        self.codes = nn.Parameter(torch.empty(self.tables, codes_per_level, dim))

    def initial(self, fill: Fill) -> None:
        fill("codes", uniform(-1 / self.codes_per_level, 1 / self.codes_per_level), self.dim)

    def table(self, level: int) -> Tensor:
        codes = self.codes[level % self.tables]
        return F.normalize(codes, dim=1) if self.distance == "cosine" else codes

    def begin(self, level: int, means: Tensor, counts: Tensor) -> None:
        self.codes.data[level] = means

    def quantize_rows(self, rows: Tensor, gradient: Gradient) -> QuantizedRows:
        quantized = super().quantize_rows(rows, gradient)
        if self.orthogonal == 0 or quantized.codebook is None:
            return quantized
        penalty = torch.stack([orthogonality(codes) for codes in self.codes]).sum()
        codebook = quantized.codebook + self.orthogonal * penalty
        return QuantizedRows(quantized.value, quantized.codes, quantized.commitment, codebook, quantized.rows)


class LinearCodebook(Codebook):
    """Fixed Gaussian codes seen through a trained linear map, so that all move together (SimVQ, Zhu et al. 2024).

    The fixed codes have standard deviation 1/√D; the map has no bias.
    """

    def __init__(self, codes_per_level: int, dim: int, grid: tuple[int, int], *, depth: int = 1) -> None:
        super().__init__(codes_per_level, dim, grid, depth=depth)
        self.codes: Tensor
        self.register_buffer("codes", torch.empty(depth, codes_per_level, dim))
        self.weight = nn.Parameter(torch.empty(depth, dim, dim))

    def initial(self, fill: Fill) -> None:
        fill("codes", gaussian(self.dim**-0.5), self.dim)
        fill("weight", scaled(1.0), self.dim)

    @property
    def remedy(self) -> str:
        return LOWER_RATE

    def table(self, level: int) -> Tensor:
        return F.linear(self.codes[level], self.weight[level])

    def begin(self, level: int, means: Tensor, counts: Tensor) -> None:
        raise ValueError("the codes of a linear codebook are fixed: k-means has nothing to start")


def orthogonality(codes: Tensor) -> Tensor:
    """Σ cos²(c_i, c_j) / K² - 1 / K over codes `(K, D)`: 0 where all are orthogonal (Shin et al. 2023, equation 4)."""
    directions = F.normalize(codes, dim=1)
    cosines = directions @ directions.t()
    return cosines.square().sum() / len(codes) ** 2 - 1 / len(codes)
