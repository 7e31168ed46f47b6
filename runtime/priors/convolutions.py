"""The causal convolutions of a map that is drawn in raster order.

Each is split in two: what it reads of the rows above is one product per row, for all columns at once; what it reads of
its own row is one product per position, on a contiguous view. One that reads nothing of its own position can be
computed before anything of that position is known: all of those that are alike are one batched product, however deep in
the network they are, since calls cost more than arithmetic here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvdsl.runtime.priors.affine import Constant, Function, Kernel, Map, matrix, unchanged


class RasterConvolution:
    """A causal convolution. `input[j]` takes the activations of column j; then a call gives the outputs there.

    Args:
        of: A function and a convolution: its input is the function of what that convolution gives.
        gate: Whether `gated` is called, and not the convolution.
    """

    def __init__(
        self,
        blank: Tensor,
        kernel: Kernel,
        map: Map,
        constants: Sequence[Tensor],
        of: tuple[Function, RasterConvolution] | None,
        gate: bool,
    ) -> None:
        through = matrix(map, [kernel.outputs], constants, blank).t()  # (outputs, kernel's outputs)
        self.taps = {offset: (tap if map is unchanged else through @ tap).t() for offset, tap in kernel.taps.items()}
        self.constant = Constant(map, [kernel.outputs], constants, [kernel.bias_map], blank)
        self.inputs, self.outputs, self.of, self.gate = kernel.inputs, len(through), of, gate
        self.input: list[Tensor] = []
        self._bank: Bank | None = None

    @property
    def reads_before(self) -> bool:
        """Whether it reads nothing of its own position."""
        return (0, 0) not in self.taps

    def settle(self, bank: Bank, place: int) -> None:
        """Take a place in a bank."""
        self._bank = bank
        self._fed_by_bank = bank.feeding is not None
        self.input = [column[place] for column in bank.inputs]
        self.result = bank.result[place]
        self._value, self._control = self.result.tensor_split(2, 1)

    def __call__(self, j: int) -> Tensor:
        assert self._bank is not None, "a map is drawn after the buffers are laid out"
        if self.of is not None and not self._fed_by_bank:
            function, source = self.of
            function(source(j), out=self.input[j])
        if not self._bank.reads_before:
            self._bank.multiply(j)
        return self.result

    def gated(self, j: int, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """`glu` of what it gives, added to `plus`."""
        self(j)
        if plus is None:
            return torch.mul(self._value, self._control, out=out)
        return torch.addcmul(plus, self._value, self._control, out=out)


def in_banks(convolutions: Sequence[RasterConvolution], blank: Tensor, batch: int) -> list[Bank]:
    """Lay out the buffers of all convolutions, in banks of those that can be computed together; sources come first."""
    alike: dict[object, list[RasterConvolution]] = {}
    for part in convolutions:
        shape = part.inputs, part.outputs, frozenset(part.taps), part.gate, part.of and part.of[0]
        alike.setdefault(shape if part.reads_before else part, []).append(part)
    banks: dict[int, Bank] = {}  # by convolution
    made = []
    for members in alike.values():
        sources = [part.of[1] for part in members if part.of is not None]
        source = banks.get(id(sources[0])) if sources else None
        feeding = None
        if source is not None and source.reads_before and source.members == sources and members[0].reads_before:
            feeding = members[0].of and (members[0].of[0], source)
        bank = Bank(members, feeding, blank, batch)
        banks.update({id(part): bank for part in members})
        made.append(bank)
    return made


class Bank:
    """Convolutions of the same shape, side by side.

    Attributes:
        reads_before: Whether they read nothing of their own position; else it is one convolution alone.
        inputs: By column, `(G, N, inputs)`.
        result: `(G, N, outputs)`, of the last position computed.
    """

    def __init__(
        self,
        members: Sequence[RasterConvolution],
        feeding: tuple[Function, Bank] | None,
        blank: Tensor,
        batch: int,
    ) -> None:
        self.members, self.feeding = list(members), feeding
        first = members[0]
        self.reads_before, width, count = first.reads_before, blank.shape[3], len(members)
        columns = [column for _, column in first.taps]
        left, right = max(0, -min(columns, default=0)), max(0, max(columns, default=0))
        row = blank.new_zeros(count, batch, left + width + right, first.inputs)  # zeros outside of the map
        self.inputs = list(row[:, :, left : left + width].unbind(2))
        self._above = _RowsAbove(members, row, left, blank)
        self.begin = self._above.begin
        self.result = blank.new_zeros(count, batch, first.outputs)
        self._control = self.result.tensor_split(2, 2)[1] if first.gate else None

        beside = [column for up, column in first.taps if up == 0]
        self._patches: list[Tensor] | None = None
        if beside:
            start, span = left + min(beside), max(beside) + 1 - min(beside)
            shape, strides = (count, batch, span * first.inputs), (*row.stride()[:2], 1)
            offsets = [(start + j) * first.inputs for j in range(width)]
            self._patches = [row.as_strided(shape, strides, offset) for offset in offsets]
            nothing = blank.new_zeros(first.inputs, first.outputs)
            offsets_beside = [(0, column) for column in range(min(beside), max(beside) + 1)]
            weights = [torch.cat([part.taps.get(offset, nothing) for offset in offsets_beside]) for part in members]
            self._weight = torch.stack(weights)
        self._alone = (self.result[0], self._weight[0]) if self._patches is not None and count == 1 else None
        for place, part in enumerate(members):
            part.settle(self, place)

    def ahead(self, j: int) -> None:
        """Compute column j of convolutions that read nothing there, then the input of those that only read them."""
        self.multiply(j)
        if self.feeding is not None:
            function, source = self.feeding
            function(source.result, out=self.inputs[j])

    def multiply(self, j: int) -> None:
        """Compute column j."""
        if self._patches is None:
            self.result.copy_(self._above.at[j])
        elif self._alone is not None:
            result, weight = self._alone
            torch.addmm(self._above.at[j][0], self._patches[j][0], weight, out=result)
        else:
            torch.baddbmm(self._above.at[j], self._patches[j], self._weight, out=self.result)
        if self._control is not None:
            self._control.sigmoid_()


class _RowsAbove:
    """What convolutions give without their own row: sums that grow with every row.

    A finished row is multiplied once, by the taps of all rows below that see it: that is faster than one convolution of
    several rows for each new row, since a small convolution spends its time on arranging its weights. The sums of the
    rows to come lie side by side in a window that goes on by one with every row, and back when it is at the end.

    Args:
        row: `(G, N, left + W + …, inputs)`, the activations of the current row between zeros.

    Attributes:
        at: The current row's sums by column, `(G, N, outputs)`.
    """

    def __init__(self, members: Sequence[RasterConvolution], row: Tensor, left: int, blank: Tensor) -> None:
        groups, batch, padded, inputs = row.shape
        taps, outputs, width = members[0].taps, members[0].outputs, blank.shape[3]
        self._constants, self._map_height = [part.constant for part in members], blank.shape[2]
        self._count = count = max(1, *(-up for up, _ in taps))
        sums = blank.new_zeros(groups, batch, width, 2 * count, outputs)
        self._sums = sums.unbind(3)
        self._columns = [of_row.unbind(2) for of_row in self._sums]
        self._first, self.at = 0, self._columns[0]
        self._seen: Tensor | None = None
        if any(up < 0 for up, _ in taps):
            span = padded - width + 1
            spread = blank.new_zeros(groups, span, inputs, count, outputs)
            for group, part in enumerate(members):
                for (up, column), tap in part.taps.items():
                    if up < 0:
                        spread[group, left + column, :, -up - 1] = tap
            self._spread = spread.view(groups, span * inputs, count * outputs)
            flat = sums.view(groups, batch * width, -1)
            self._windows = [flat[:, :, outputs * first : outputs * (first + count)] for first in range(count + 1)]
            # What each column of a row below sees of this one: neighbours overlap.
            strides = row.stride(0), row.stride(1), inputs, 1
            self._seen = row.as_strided((groups, batch, width, span * inputs), strides)

    def begin(self, i: int) -> None:
        """Prepare row i; the rows above are complete."""
        count = self._count
        if i:
            self._go_on()
        for ahead in range(count) if i == 0 else (count - 1,):
            if i + ahead < self._map_height:
                for sums, constant in zip(self._sums[self._first + ahead], self._constants, strict=True):
                    sums.copy_(constant.row(i + ahead) if constant.vector is None else constant.vector)
        if i and self._seen is not None:
            for window, seen, spread in zip(self._windows[self._first], self._seen, self._spread, strict=True):
                window.addmm_(seen.reshape(len(window), -1), spread)
        self.at = self._columns[self._first]

    def _go_on(self) -> None:
        self._first += 1
        if self._first > self._count:
            for ahead in range(self._count - 1):
                self._sums[ahead].copy_(self._sums[self._first + ahead])
            self._first = 0
