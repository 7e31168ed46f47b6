"""A code map drawn position by position: the parts of a prior as buffers that grow with it.

Every causal convolution is split in two: what it reads of the rows above is one product per row, for all columns at
once; what it reads of its own row is one product per position on a contiguous view. Keys and values of attention are
kept. Activations are `(N, C)`. Views are made once: taking one costs as much time as a function of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hvdsl.runtime.latents.group import CodeMap
from hvdsl.runtime.layers import Attention
from hvdsl.runtime.priors.affine import Constant, Kernel, Map, gate, matrix, same
from hvdsl.runtime.priors.buffers import Choose, Steps

APART = 16  # elements between rows of keys beyond the positions: powers of two would share few lines of the cache


class _PerRow(Protocol):
    def begin(self, i: int) -> None:
        """Prepare row i; the rows above are complete."""
        ...


class Raster:
    """Positions in raster order, one a step: step j is column j of the row that is being drawn.

    The emitted form of a prior asks it for its parts and then computes with them.

    Attributes:
        codes_so_far: `(N, H, W)`; zeros where nothing has been drawn.
        blank: `(1, 1, H, W)`, for what depends on the size of the map alone.
    """

    def __init__(self, batch: int, codes: CodeMap, like: Tensor) -> None:
        height, width = codes.grid
        self.batch, self.height, self.width = batch, height, width
        self.grid = height, width
        self.blank = like.new_zeros(1, 1, height, width)
        self.codes_so_far = torch.zeros(batch, height, width, dtype=torch.long, device=like.device)
        self._parts: list[_PerRow] = []
        self._first: list[RasterCodes] = []

    def fill(self, steps: Steps, choose: Choose, done: Callable[[int, int], None]) -> None:
        """Draw all rows; `done` is told how many of how many."""
        for i in range(self.height):
            for part in self._parts:
                part.begin(i)
            for j, column in enumerate(self.codes_so_far[:, i].unbind(1)):
                codes = choose(steps(j), i, j)
                column.copy_(codes)
                for first in self._first:
                    first.put(j, codes)
            done(i + 1, self.height)

    def codes(self, kernels: Sequence[Kernel], map: Map = same, constants: Sequence[Tensor] = ()) -> RasterCodes:
        """What convolutions of the codes give, through a map."""
        part = RasterCodes(self, kernels, map, constants)
        self._first.append(part)
        self._parts.append(part)
        return part

    def convolution(self, kernel: Kernel, map: Map = same, constants: Sequence[Tensor] = ()) -> RasterConvolution:
        """A causal convolution, through a map."""
        part = RasterConvolution(self, kernel, map, constants)
        self._parts.append(part)
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

    def __init__(self, raster: Raster, kernels: Sequence[Kernel], map: Map, constants: Sequence[Tensor]) -> None:
        sizes = [kernel.outputs for kernel in kernels]
        through = torch.split(matrix(map, sizes, constants, raster.blank), sizes)
        self._constant = Constant(map, sizes, constants, [kernel.bias_map for kernel in kernels], raster.blank)
        tables: dict[tuple[int, int], Tensor] = {}
        for kernel, weight in zip(kernels, through, strict=True):
            for offset, tap in kernel.taps.items():
                table = tap.t() @ weight  # (classes, outputs)
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
        if self._beside is not None:
            self._later[j].add_(self._beside.index_select(0, codes))


class _CodesAbove:
    """What the codes of the rows above add to a row: one sum of table rows for every column.

    What is outside of the map has a code of its own, whose rows are zeros.
    """

    def __init__(self, raster: Raster, tables: Mapping[tuple[int, int], Tensor]) -> None:
        self._drawn = raster.codes_so_far
        self._table: Tensor | None = None
        if not tables:
            return
        up = max(-row for row, _ in tables)
        left, right = max(0, *(-c for _, c in tables)), max(0, *(c for _, c in tables))
        classes = len(next(iter(tables.values())))
        self._table = torch.cat([F.pad(table, (0, 0, 0, 1)) for table in tables.values()])
        shape = raster.batch, up + raster.height, left + raster.width + right
        codes = torch.full(shape, classes, dtype=torch.long, device=raster.blank.device)
        self._rows = codes[:, up:, left : left + raster.width].unbind(1)
        self._codes, self._stride = codes.flatten(1), shape[2]
        near = [(up + row) * shape[2] + left + column for row, column in tables]  # of column 0 in row 0
        columns = torch.arange(raster.width, device=codes.device)[:, None]
        self._near = columns + torch.tensor(near, device=codes.device)
        self._starts = torch.arange(len(tables), device=codes.device) * (classes + 1)

    def add_to(self, row: Tensor, i: int) -> None:
        if self._table is None or i == 0:
            return
        self._rows[i - 1].copy_(self._drawn[:, i - 1])
        seen = self._codes[:, self._near + i * self._stride] + self._starts
        row += F.embedding_bag(seen.flatten(0, 1), self._table, mode="sum").view_as(row)


class RasterConvolution:
    """A causal convolution. `input[j]` takes the activations of column j; then a call gives the outputs there."""

    def __init__(self, raster: Raster, kernel: Kernel, map: Map, constants: Sequence[Tensor]) -> None:
        batch, width, inputs = raster.batch, raster.width, kernel.inputs
        through = matrix(map, [kernel.outputs], constants, raster.blank).t()  # (outputs, kernel's outputs)
        taps = {offset: (tap if map is same else through @ tap).t() for offset, tap in kernel.taps.items()}
        left, right = max(0, -min((c for _, c in taps), default=0)), max(0, max((c for _, c in taps), default=0))
        row = raster.blank.new_zeros(batch, left + width + right, inputs)  # zeros outside of the map
        self.input = list(row[:, left : left + width].unbind(1))
        constant = Constant(map, [kernel.outputs], constants, [kernel.bias_map], raster.blank)
        self._above = _RowsAbove(raster, row, left, taps, constant, len(through))

        beside = [column for up, column in taps if up == 0]
        self._patches: list[Tensor] | None = None
        if beside:
            first, last = min(beside), max(beside)
            span = last + 1 - first
            starts = range(left + first, left + first + width)
            self._patches = [row[:, start : start + span].view(batch, span * inputs) for start in starts]
            blank = raster.blank.new_zeros(inputs, len(through))
            self._weight = torch.cat([taps.get((0, c), blank) for c in range(first, last + 1)])
        self._result = raster.blank.new_zeros(batch, len(through))
        self._value, self._control = self._result.tensor_split(2, 1)

    def __call__(self, j: int) -> Tensor:
        if self._patches is None:
            return self._result.copy_(self._above.at[j])
        return torch.addmm(self._above.at[j], self._patches[j], self._weight, out=self._result)

    def gated(self, j: int, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        self(j)
        return gate(self._value, self._control, plus, out)

    def begin(self, i: int) -> None:
        self._above.begin(i)


class _RowsAbove:
    """What a convolution gives without its own row: sums that grow with every row.

    A finished row is multiplied once, by the taps of all rows below that see it: that is faster than one convolution of
    several rows for each new row, since a small convolution spends its time on arranging its weights. The sums of the
    rows to come lie side by side in a window that goes on by one with every row, and back when it is at the end.

    Args:
        row: `(N, left + W + …, inputs)`, the activations of the current row between zeros.
        taps: `(inputs, outputs)` by (row, column).

    Attributes:
        at: The current row's sums by column, `(N, outputs)`.
    """

    def __init__(
        self,
        raster: Raster,
        row: Tensor,
        left: int,
        taps: Mapping[tuple[int, int], Tensor],
        constant: Constant,
        outputs: int,
    ) -> None:
        batch, width, inputs = raster.batch, raster.width, row.shape[2]
        self._constant, self._map_height = constant, raster.height
        self._count = count = max(1, *(-up for up, _ in taps))
        sums = raster.blank.new_zeros(batch, width, 2 * count, outputs)
        self._sums = sums.unbind(2)
        self._columns = [of_row.unbind(1) for of_row in self._sums]
        self._first, self.at = 0, self._columns[0]
        self._seen: Tensor | None = None
        if any(up < 0 for up, _ in taps):
            span = row.shape[1] - width + 1
            spread = raster.blank.new_zeros(span, inputs, count, outputs)
            for (up, column), tap in taps.items():
                if up < 0:
                    spread[left + column, :, -up - 1] = tap
            self._spread = spread.view(span * inputs, count * outputs)
            flat = sums.view(batch * width, -1)
            self._windows = [flat[:, outputs * first : outputs * (first + count)] for first in range(count + 1)]
            # What each column of a row below sees of this one: neighbours overlap.
            self._seen = row.as_strided((batch, width, span * inputs), (row.stride(0), inputs, 1))

    def begin(self, i: int) -> None:
        count = self._count
        if i:
            self._go_on()
        for ahead in range(count) if i == 0 else (count - 1,):
            if i + ahead < self._map_height:
                vector = self._constant.vector
                self._sums[self._first + ahead].copy_(self._constant.row(i + ahead) if vector is None else vector)
        if i and self._seen is not None:
            window = self._windows[self._first]
            window.addmm_(self._seen.reshape(len(window), -1), self._spread)
        self.at = self._columns[self._first]

    def _go_on(self) -> None:
        self._first += 1
        if self._first > self._count:
            for ahead in range(self._count - 1):
                self._sums[ahead].copy_(self._sums[self._first + ahead])
            self._first = 0


class RasterLinear:
    """A linear map. Several tensors stand side by side, in `operands[number][j]`; one alone is given to the call."""

    def __init__(self, raster: Raster, map: Map, sizes: Sequence[int], constants: Sequence[Tensor]) -> None:
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

    def __init__(self, raster: Raster, constant: Tensor) -> None:
        self._constant = Constant(same, [], [constant], [], raster.blank)
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

    def __init__(self, raster: Raster, layer: Attention, keys: int, values: int) -> None:
        batch, heads, width, positions = raster.batch, layer.heads, raster.width, raster.height * raster.width
        self._blank, self._width, self._count = raster.blank, width, batch * heads
        self._inclusive = layer.causal == "inclusive"
        self._scale = 1 / math.sqrt(keys // heads)
        joined = self._blank.new_zeros(batch, 2 * keys + values)
        self.input = [joined] * width
        query, key, value = (part.view(batch, heads, -1) for part in torch.split(joined, [keys, keys, values], 1))
        self._query, self._key, self._value = query, key, value
        # Those of one sample lie as the product takes them; those of several are brought together.
        gathered = query if batch == 1 else torch.empty_like(query, memory_format=torch.contiguous_format)
        self._gathered = None if batch == 1 else gathered
        self._queries = gathered.view(self._count, 1, -1)

        stride = positions + APART
        kept_keys = self._blank.new_zeros(batch, heads, keys // heads, stride)
        kept_values = self._blank.new_zeros(batch, heads, values // heads, stride)
        self._key_at, self._value_at = kept_keys.unbind(3), kept_values.unbind(3)
        self._keys = kept_keys.view(self._count, -1, stride)
        self._values = kept_values.view(self._count, -1, stride).transpose(1, 2)
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
        self._key_at[self._start + j].copy_(self._key)
        self._value_at[self._start + j].copy_(self._value)
