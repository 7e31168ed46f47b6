"""A code map drawn position by position: the parts of a prior as buffers that grow with it.

Causal convolutions are in `convolutions`. Keys and values of attention are kept. Activations are `(N, C)`. Views are
made once: taking one costs as much time as a function of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.layers import Attention
from hvdsl.runtime.priors.affine import Constant, Function, Kernel, Map, gate, matrix, unchanged
from hvdsl.runtime.priors.convolutions import RasterConvolution, in_banks
from hvdsl.runtime.priors.protocol import Choose, DepthSteps, Steps

APART = 16  # elements between rows of keys beyond the positions: powers of two would share few lines of the cache


class _PerRow(Protocol):
    def begin(self, i: int) -> None:
        """Prepare row i; the rows above are complete."""
        ...


class RasterBuffers:
    """Positions in raster order, one a step: step j is column j of the row that is being drawn.

    Where a position has several codes, each of its depths is chosen as if it were a column: column j · depth + d.

    The emitted form of a prior asks it for its parts and then computes with them.

    Attributes:
        codes_so_far: `(N, H, W)`, or `(N, depth, H, W)`; zeros where nothing has been drawn.
        blank: `(1, 1, H, W)`, for what depends on the size of the map alone.
    """

    def __init__(self, batch: int, codes: CodeMap, like: Tensor) -> None:
        height, width = codes.grid
        self.batch, self.height, self.width = batch, height, width
        self.grid = height, width
        self.blank = like.new_zeros(1, 1, height, width)
        self.depth, self._classes = codes.depth, codes.classes
        drawn = torch.zeros(batch, height, width, codes.depth, dtype=torch.long, device=like.device)
        self.codes_so_far = drawn[..., 0] if codes.depth == 1 else drawn.permute(0, 3, 1, 2)
        # Where each code stands among those of all depths, which are side by side.
        self.starts = torch.arange(codes.depth, device=like.device) * codes.classes
        self.drawn = drawn
        self._parts: list[_PerRow] = []
        self._first: list[RasterCodes] = []
        self._convolutions: list[RasterConvolution] = []

    def fill(self, steps: Steps, choose: Choose, done: Callable[[int, int], None]) -> None:
        """Draw all rows; `done` is told how many of how many."""
        banks = in_banks(self._convolutions, self.blank, self.batch)
        ahead = [bank.ahead for bank in banks if bank.reads_before]
        for i in range(self.height):
            for part in (*self._parts, *banks):
                part.begin(i)
            for j, column in enumerate(self.drawn[:, i].unbind(1)):
                for compute in ahead:
                    compute(j)
                if self.depth == 1:
                    codes = choose(steps(j), i, j)
                    column[:, 0].copy_(codes)
                else:
                    self._choose_depths(cast("DepthSteps", steps), choose, i, j, column)
                    codes = column + self.starts
                for first in self._first:
                    first.put(j, codes)
            done(i + 1, self.height)

    def _choose_depths(self, steps: DepthSteps, choose: Choose, i: int, j: int, column: Tensor) -> None:
        """Draw the codes of a position, each given those before it, into `column` `(N, depth)`."""
        shared = steps(j)[:, :, None, None]
        codes = self.blank.new_zeros(self.batch, self.depth * self._classes, 1, 1)
        for depth in range(self.depth):
            start = depth * self._classes
            logits = steps.heads(shared, codes)[:, start : start + self._classes, 0, 0]
            column[:, depth] = choose(logits, i, j * self.depth + depth)
            codes[torch.arange(self.batch, device=codes.device), start + column[:, depth]] = 1

    def codes(self, kernels: Sequence[Kernel], map: Map = unchanged, constants: Sequence[Tensor] = ()) -> RasterCodes:
        """What convolutions of the codes give, through a map."""
        part = RasterCodes(self, kernels, map, constants)
        self._first.append(part)
        self._parts.append(part)
        return part

    def convolution(
        self,
        kernel: Kernel,
        map: Map = unchanged,
        constants: Sequence[Tensor] = (),
        *,
        of: tuple[Function, RasterConvolution] | None = None,
        gate: bool = False,
    ) -> RasterConvolution:
        """A causal convolution, through a map: of its `input`, or of a function of another convolution."""
        part = RasterConvolution(self.blank, kernel, map, constants, of, gate)
        self._convolutions.append(part)
        return part

    def linear(self, map: Map, sizes: Sequence[int], constants: Sequence[Tensor] = ()) -> RasterLinear:
        """A linear map of tensors with `sizes` channels."""
        part = RasterLinear(self, map, sizes, constants)
        if part.varies:
            self._parts.append(part)
        return part

    def known(self, constant: Tensor) -> RasterKnown:
        """What is known beforehand, position by position."""
        part = RasterKnown(self, constant)
        self._parts.append(part)
        return part

    def attention(self, layer: Attention, keys: int, values: int) -> RasterAttention:
        """Causal attention with so many channels of keys and of values."""
        part = RasterAttention(self, layer, keys, values)
        self._parts.append(part)
        return part


class RasterCodes:
    """Convolutions of the codes as look-ups: a code's share in each output that sees it is a row of a table."""

    def __init__(self, raster: RasterBuffers, kernels: Sequence[Kernel], map: Map, constants: Sequence[Tensor]) -> None:
        sizes = [kernel.outputs for kernel in kernels]
        through = torch.split(matrix(map, sizes, constants, raster.blank), sizes)
        unit = torch.eye(len(through[0]), dtype=through[0].dtype, device=through[0].device)
        self._constant = Constant(map, sizes, constants, [kernel.bias_map for kernel in kernels], raster.blank)
        tables: dict[tuple[int, int], Tensor] = {}
        for kernel, weight in zip(kernels, through, strict=True):
            alone = torch.equal(weight, unit)
            for offset, tap in kernel.taps.items():
                table = tap.t() if alone else tap.t() @ weight  # (classes, outputs)
                tables[offset] = tables[offset] + table if offset in tables else table
        self._above = _CodesAbove(raster, {offset: table for offset, table in tables.items() if offset[0] < 0})
        self._reach = max((-column for row, column in tables if row == 0), default=0)
        outputs = through[0].shape[1]
        blank = raster.blank.new_zeros(kernels[0].inputs, outputs)
        beside = [tables.get((0, -step), blank) for step in range(1, self._reach + 1)]
        self._beside = torch.cat(beside, 1) if beside else None  # what a code adds to the columns after it
        self._row = raster.blank.new_zeros(raster.batch, raster.width + self._reach, outputs)
        self._columns = self._row.unbind(1)
        self._inside = self._row[:, : raster.width]
        spans = (self._row[:, j + 1 : j + 1 + self._reach] for j in range(raster.width))
        self._later = [span.view(raster.batch, self._reach * outputs) for span in spans]

    def __call__(self, j: int) -> Tensor:
        return self._columns[j]

    def begin(self, i: int) -> None:
        constant = self._constant.row(i) if self._constant.vector is None else self._constant.vector
        self._inside.copy_(constant)
        self._above.add_to(self._inside, i)

    def put(self, j: int, codes: Tensor) -> None:
        if self._beside is None:
            return
        rows = self._beside.index_select(0, codes.flatten())
        self._later[j].add_(rows if codes.dim() == 1 else rows.view(*codes.shape, -1).sum(1))


class _CodesAbove:
    """What the codes of the rows above add to a row: one sum of table rows for every column.

    What is outside of the map has a code of its own, whose rows are zeros. The depths of a position are planes.
    """

    def __init__(self, raster: RasterBuffers, tables: Mapping[tuple[int, int], Tensor]) -> None:
        self._drawn, self._depths = raster.drawn, raster.starts[:, None]
        self._table: Tensor | None = None
        if not tables:
            return
        up = max(-row for row, _ in tables)
        left, right = max(0, *(-c for _, c in tables)), max(0, *(c for _, c in tables))
        classes = len(next(iter(tables.values())))
        self._table = torch.cat([F.pad(table, (0, 0, 0, 1)) for table in tables.values()])
        shape = raster.batch, raster.depth, up + raster.height, left + raster.width + right
        codes = torch.full(shape, classes, dtype=torch.long, device=raster.blank.device)
        self._rows = codes[:, :, up:, left : left + raster.width].unbind(2)
        self._codes, self._stride = codes.flatten(2), shape[3]
        near = [(up + row) * shape[3] + left + column for row, column in tables]  # of column 0 in row 0
        columns = torch.arange(raster.width, device=codes.device)[:, None]
        self._near = columns + torch.tensor(near, device=codes.device)
        self._starts = torch.arange(len(tables), device=codes.device) * (classes + 1)

    def add_to(self, row: Tensor, i: int) -> None:
        if self._table is None or i == 0:
            return
        self._rows[i - 1].copy_(self._drawn[:, i - 1].transpose(1, 2) + self._depths)
        seen = self._codes[:, :, self._near + i * self._stride] + self._starts  # (N, depth, W, taps)
        by_position = seen.transpose(1, 2).flatten(0, 1).flatten(1)
        row += F.embedding_bag(by_position, self._table, mode="sum").view_as(row)


class RasterLinear:
    """A linear map. Several tensors stand side by side, in `operands[number][j]`; one alone is given to the call."""

    def __init__(self, raster: RasterBuffers, map: Map, sizes: Sequence[int], constants: Sequence[Tensor]) -> None:
        self._weight = matrix(map, sizes, constants, raster.blank).contiguous()
        self._constant = Constant(map, sizes, constants, [None] * len(sizes), raster.blank)
        self._side_by_side = raster.blank.new_zeros(raster.batch, sum(sizes))
        self.operands = [[part] * raster.width for part in torch.split(self._side_by_side, list(sizes), 1)]
        self._row = raster.blank.new_zeros(raster.width, raster.batch, self._weight.shape[1])
        vector = self._constant.vector
        rows = self._row if vector is None else vector.expand_as(self._row)  # a matrix is added faster than a vector
        self._bias = list(rows.unbind(0))
        self._result = torch.empty_like(self._row[0])
        self._value, self._control = self._result.tensor_split(2, 1)

    @property
    def varies(self) -> bool:
        """Whether its constant depends on the position."""
        return self._constant.vector is None

    def __call__(self, j: int, x: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        whole = self._side_by_side if x is None else x
        return torch.addmm(self._bias[j], whole, self._weight, out=self._result if out is None else out)

    def gated(
        self, j: int, x: Tensor | None = None, *, plus: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        self(j, x)
        return gate(self._value, self._control, plus, out)

    def begin(self, i: int) -> None:
        self._row.copy_(self._constant.row(i).transpose(0, 1))


class RasterKnown:
    """What no code changes, column by column of the row that is being drawn."""

    def __init__(self, raster: RasterBuffers, constant: Tensor) -> None:
        self._constant = Constant(unchanged, [], [constant], [], raster.blank)
        self._columns: Sequence[Tensor] = ()
        self._batch = raster.batch

    def __call__(self, j: int) -> Tensor:
        return self._columns[j]

    def begin(self, i: int) -> None:
        self._columns = self._constant.row(i).expand(self._batch, -1, -1).unbind(1)


class RasterAttention:
    """Causal attention of one query over the keys and values kept so far.

    Query, key and value of a position arrive side by side in `input[j]`. Keys and values are kept as
    `(N heads, d, positions)`: two batched products are faster for one query than fused attention, and with few channels
    a head those that run along the positions are the faster ones. They read to the end of the current row, through
    views made once a row; what a position does not see of its row is masked.
    """

    def __init__(self, raster: RasterBuffers, layer: Attention, keys: int, values: int) -> None:
        batch, heads, width, positions = raster.batch, layer.heads, raster.width, raster.height * raster.width
        self._blank, self._width, self._count = raster.blank, width, batch * heads
        self._inclusive = layer.causal == "inclusive"
        self._scale = 1 / math.sqrt(keys // heads)
        joined = self._blank.new_zeros(batch, 2 * keys + values)
        self.input = [joined] * width
        query, *kept = (part.view(batch, heads, -1) for part in torch.split(joined, [keys, keys, values], 1))
        self._query = query
        # Those of one sample lie as the product takes them; those of several are brought together.
        gathered = query if batch == 1 else torch.empty_like(query, memory_format=torch.contiguous_format)
        self._gathered = None if batch == 1 else gathered
        self._queries = gathered.view(self._count, 1, -1)

        stride = positions + APART
        widths = [keys // heads, values // heads]
        both = self._blank.new_zeros(batch, heads, sum(widths), stride)
        if keys == values:  # as many channels: one copy keeps a key with its value
            kept = [joined[:, keys:].view(batch, 2, heads, -1)]
            places = [both.view(batch, heads, 2, -1, stride).transpose(1, 2)]
        else:
            places = list(torch.split(both, widths, 2))
        self._kept = [(piece, place.unbind(-1)) for piece, place in zip(kept, places, strict=True)]
        self._keys, values_kept = torch.split(both.view(self._count, -1, stride), widths, 1)
        self._values = values_kept.transpose(1, 2)
        # Finite, so that the first position, which may see nothing, gets the mean of values that are still zero.
        unseen = self._blank.new_full((width, width), torch.finfo(self._blank.dtype).min)
        self._unseen = unseen.triu(1 if self._inclusive else 0).unbind(0)
        self._result = self._blank.new_zeros(batch, values)
        self._sum = self._result.view(self._count, 1, -1)

    def begin(self, i: int) -> None:
        self._start, stop = i * self._width, (i + 1) * self._width
        self._keys_seen, self._values_seen = self._keys[:, :, :stop], self._values[:, :stop]
        self._scores = self._blank.new_empty(self._count, 1, stop)
        self._own_row = self._scores[:, :, -self._width :]
        self._weights = torch.empty_like(self._scores)

    def __call__(self, j: int) -> Tensor:
        """What the position sees, `(N, values)`."""
        if self._inclusive:
            self._keep(j)
        if self._gathered is not None:
            self._gathered.copy_(self._query)
        self._scores.baddbmm_(self._queries, self._keys_seen, beta=0, alpha=self._scale)
        self._own_row.add_(self._unseen[j])
        torch.softmax(self._scores, 2, out=self._weights)
        torch.bmm(self._weights, self._values_seen, out=self._sum)
        if not self._inclusive:
            self._keep(j)
        return self._result

    def _keep(self, j: int) -> None:
        for piece, places in self._kept:
            places[self._start + j].copy_(piece)
