"""What the emitted form of a prior is computed on: a schedule of positions, and the buffers that go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from hvdsl.runtime.layers import Attention
from hvdsl.runtime.priors.affine import Function, Kernel, Map, same

Choose: TypeAlias = Callable[[Tensor, int, int], Tensor]
"""Picks the codes `(N,)` of a position from its logits `(N, K)`, row and column. The logits are a buffer that the next
position overwrites: they are valid until the call returns."""


class Steps(Protocol):
    """The emitted form."""

    def __call__(self, j: int) -> Tensor:
        """The logits of step j: `(N, K)`, or `(positions · N, K)` where a step has several. The next step may
        overwrite them."""
        ...


class Part(Protocol):
    """Gives the tensor `(N, C)` of step j from what its buffers hold; the next step may overwrite it."""

    def __call__(self, j: int) -> Tensor: ...


class Reading(Part, Protocol):
    input: list[Tensor]
    """By step: where the activations of its positions go, before the call."""


class Convolution(Reading, Protocol):
    def gated(self, j: int, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """`glu` of what a call gives, added to `plus`."""
        ...


class Linear(Protocol):
    operands: list[list[Tensor]]
    """By tensor and step: where several tensors are put side by side, before the call."""

    def __call__(self, j: int, x: Tensor | None = None, out: Tensor | None = None) -> Tensor: ...

    def gated(
        self, j: int, x: Tensor | None = None, *, plus: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """`glu` of what a call gives, added to `plus`."""
        ...


class StepBuffers(Protocol):
    """Makes the parts of a prior's position-by-position form.

    Attributes:
        blank: `(1, 1, H, W)`, for what depends on the size of the map alone.
        codes_so_far: `(N, H, W)`; zeros where nothing has been drawn.
    """

    blank: Tensor
    grid: tuple[int, int]
    codes_so_far: Tensor

    def fill(self, steps: Steps, choose: Choose, done: Callable[[int, int], None]) -> None:
        """Draw the whole map; `done(n, of)` tells of progress."""
        ...

    def codes(self, kernels: Sequence[Kernel], map: Map = same, constants: Sequence[Tensor] = ()) -> Part:
        """What convolutions of the codes give, through a map."""
        ...

    def convolution(
        self,
        kernel: Kernel,
        map: Map = same,
        constants: Sequence[Tensor] = (),
        *,
        of: tuple[Function, Any] | None = None,
        gate: bool = False,
    ) -> Convolution:
        """A causal convolution, through a map.

        Args:
            of: A function and another convolution of these buffers: its input is the function of what that one gives.
                Without, the input is written into `input` before the call.
            gate: Whether `gated` is called, and not the convolution.
        """
        ...

    def linear(self, map: Map, sizes: Sequence[int], constants: Sequence[Tensor] = ()) -> Linear:
        """A linear map of tensors with `sizes` channels."""
        ...

    def known(self, constant: Tensor) -> Part:
        """What is known beforehand, `(1 or N, C, 1 or H, 1 or W)`, position by position."""
        ...

    def attention(self, layer: Attention, keys: int, values: int) -> Reading:
        """Causal attention with so many channels of keys and of values; it reads query, key and value side by side."""
        ...
