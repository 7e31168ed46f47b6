"""A code map drawn front by front: every position whose inputs are complete at once. For priors without attention.

With taps no further to the right than `s` columns per row up, positions of equal `j + (s + 1) i` do not see each other:
they form a front. Buffers are skewed, so that the positions of a front lie side by side whatever their rows; what is
outside of the map is never written and stays zero. The work is that of `raster`, in W + (s + 1)(H - 1) steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.layers import Attention
from hvdsl.runtime.priors.affine import Constant, Function, Kernel, Map, gate, matrix, unchanged
from hvdsl.runtime.priors.protocol import Choose, ReadingPart, Steps


class WavefrontBuffers:
    """One front a step; activations are `(positions of the front · N, C)`, position by position.

    Args:
        skew: s + 1, by how many columns a front falls back with every row.
    """

    def __init__(self, batch: int, codes: CodeMap, like: Tensor, skew: int) -> None:
        height, width = codes.grid
        self.batch, self.grid, self.skew = batch, (height, width), skew
        self.blank = like.new_zeros(1, 1, height, width)
        self.codes_so_far = torch.zeros(batch, height, width, dtype=torch.long, device=like.device)
        self.fronts = width + skew * (height - 1)
        self.rows = [
            range(max(0, -((width - 1 - u) // skew)), min(height - 1, u // skew) + 1) for u in range(self.fronts)
        ]
        self._first: list[FrontCodes] = []

    def fill(self, steps: Steps, choose: Choose, done: Callable[[int, int], None]) -> None:
        """Draw all fronts; `done` is told how many of how many."""
        for u, rows in enumerate(self.rows):
            if not rows:  # in a map of fewer columns than the fronts fall back
                continue
            logits = steps(u).view(len(rows), self.batch, -1)
            drawn = torch.stack([choose(logits[n], i, u - self.skew * i) for n, i in enumerate(rows)])
            for n, i in enumerate(rows):
                self.codes_so_far[:, i, u - self.skew * i] = drawn[n]
            for first in self._first:
                first.put(u, drawn)
            done(u + 1, self.fronts)

    def codes(self, kernels: Sequence[Kernel], map: Map = unchanged, constants: Sequence[Tensor] = ()) -> FrontCodes:
        part = FrontCodes(self, kernels, map, constants)
        self._first.append(part)
        return part

    def convolution(
        self,
        kernel: Kernel,
        map: Map = unchanged,
        constants: Sequence[Tensor] = (),
        *,
        of: tuple[Function, FrontConvolution] | None = None,
        gate: bool = False,
    ) -> FrontConvolution:
        return FrontConvolution(self, kernel, map, constants, of)

    def linear(self, map: Map, sizes: Sequence[int], constants: Sequence[Tensor] = ()) -> FrontLinear:
        return FrontLinear(self, map, sizes, constants)

    def known(self, constant: Tensor) -> FrontKnown:
        return FrontKnown(self, constant)

    def attention(self, layer: Attention, keys: int, values: int) -> ReadingPart:
        raise HvdslError("a prior with attention sees every position before the last: it is drawn in raster order only")

    def constants(self, constant: Constant) -> list[Tensor]:
        """A constant by front: `(positions · N, outputs)`, or one vector for all."""
        if constant.vector is not None:
            return [constant.vector] * self.fronts
        rows = [constant.row(i) for i in range(self.grid[0])]
        none = rows[0].new_zeros(0, rows[0].shape[2])
        return [
            torch.stack([rows[i][:, u - self.skew * i].expand(self.batch, -1) for i in at]).flatten(0, 1)
            if at
            else none
            for u, at in enumerate(self.rows)
        ]

    def views(self, skewed: Tensor, offset: tuple[int, int], margins: tuple[int, int]) -> list[Tensor]:
        """By front, what a skewed buffer `(fronts, rows, …)` with `margins` before both holds at an offset."""
        up, column = offset
        back = column + self.skew * up
        return [
            skewed[margins[0] + u + back, margins[1] + rows.start + up : margins[1] + rows.stop + up].flatten(0, 1)
            for u, rows in enumerate(self.rows)
        ]

    def margins(self, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """How many fronts and rows back the furthest of these reach."""
        return max(-(column + self.skew * row) for row, column in offsets), max(-row for row, _ in offsets)


class FrontCodes:
    """Convolutions of the codes: one sum of table rows per front. A position outside of the map has a code of zeros."""

    def __init__(
        self, front: WavefrontBuffers, kernels: Sequence[Kernel], map: Map, constants: Sequence[Tensor]
    ) -> None:
        sizes = [kernel.outputs for kernel in kernels]
        through = torch.split(matrix(map, sizes, constants, front.blank), sizes)
        self._bias = front.constants(
            Constant(map, sizes, constants, [kernel.bias_map for kernel in kernels], front.blank)
        )
        tables: dict[tuple[int, int], Tensor] = {}
        for kernel, weight in zip(kernels, through, strict=True):
            for offset, tap in kernel.taps.items():
                table = F.pad(tap.t() @ weight, (0, 0, 0, 1))
                tables[offset] = tables[offset] + table if offset in tables else table
        self._table = torch.cat(list(tables.values()))
        classes = kernels[0].inputs
        self._margins = front.margins(list(tables))
        shape = self._margins[0] + front.fronts, self._margins[1] + front.grid[0], front.batch
        self._codes = torch.full(shape, classes, dtype=torch.long, device=front.blank.device)
        seen = [front.views(self._codes, offset, self._margins) for offset in tables]
        self._seen = [list(views) for views in zip(*seen, strict=True)]
        self._starts = torch.arange(len(tables), device=front.blank.device) * (classes + 1)
        self._rows = front.rows

    def __call__(self, j: int) -> Tensor:
        codes = torch.stack(self._seen[j], 1) + self._starts
        return F.embedding_bag(codes, self._table, mode="sum") + self._bias[j]

    def put(self, u: int, drawn: Tensor) -> None:
        rows, (back, above) = self._rows[u], self._margins
        self._codes[back + u, above + rows.start : above + rows.stop] = drawn


class FrontConvolution:
    """A causal convolution: the activations of all taps side by side, then one product."""

    def __init__(
        self,
        front: WavefrontBuffers,
        kernel: Kernel,
        map: Map,
        constants: Sequence[Tensor],
        of: tuple[Function, FrontConvolution] | None,
    ) -> None:
        self._of = of
        through = matrix(map, [kernel.outputs], constants, front.blank).t()
        self._bias = front.constants(Constant(map, [kernel.outputs], constants, [kernel.bias_map], front.blank))
        offsets = sorted(kernel.taps)
        self._weight = torch.cat([(through @ kernel.taps[offset]).t() for offset in offsets])
        margins = front.margins([*offsets, (0, 0)])
        shape = margins[0] + front.fronts, margins[1] + front.grid[0], front.batch, kernel.inputs
        skewed = front.blank.new_zeros(shape)
        self.input = front.views(skewed, (0, 0), margins)
        seen = [front.views(skewed, offset, margins) for offset in offsets]
        self._seen = [list(views) for views in zip(*seen, strict=True)]

    def __call__(self, j: int) -> Tensor:
        if self._of is not None:
            function, source = self._of
            function(source(j), out=self.input[j])
        return torch.addmm(self._bias[j], torch.cat(self._seen[j], 1), self._weight)

    def gated(self, j: int, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        value, control = self(j).chunk(2, 1)
        return gate(value, control, plus, out)


class FrontKnown:
    """What no code changes, front by front."""

    def __init__(self, front: WavefrontBuffers, constant: Tensor) -> None:
        self._fronts = front.constants(Constant(unchanged, [], [constant], [], front.blank))

    def __call__(self, j: int) -> Tensor:
        return self._fronts[j]


class FrontLinear:
    """A linear map, as `raster.RasterLinear`."""

    def __init__(self, front: WavefrontBuffers, map: Map, sizes: Sequence[int], constants: Sequence[Tensor]) -> None:
        self._weight = matrix(map, sizes, constants, front.blank).contiguous()
        self._bias = front.constants(Constant(map, sizes, constants, [None] * len(sizes), front.blank))
        counts = [len(rows) * front.batch for rows in front.rows]
        whole = front.blank.new_zeros(max(counts), sum(sizes))
        self._side_by_side = [whole[:count] for count in counts]
        parts = [torch.split(whole, list(sizes), 1) for whole in self._side_by_side]
        self.operands = [list(slot) for slot in zip(*parts, strict=True)]

    def __call__(self, j: int, x: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return torch.addmm(self._bias[j], self._side_by_side[j] if x is None else x, self._weight, out=out)

    def gated(
        self, j: int, x: Tensor | None = None, *, plus: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        value, control = self(j, x).chunk(2, 1)
        return gate(value, control, plus, out)
