"""What the runtime asks of emitted priors, and what their position-by-position forms are computed on: buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.latents.conditions import checked_condition
from hvdsl.runtime.latents.group import CodeMap, Condition
from hvdsl.runtime.layers import Attention
from hvdsl.runtime.priors.affine import Function, Kernel, Map, unchanged

Choose: TypeAlias = Callable[[Tensor, int, int], Tensor]
"""Picks the codes `(N,)` of a position from its logits `(N, K)`, row and column. The logits are a buffer that the next
position overwrites: they are valid until the call returns."""


class Steps(Protocol):
    """The emitted form."""

    def __call__(self, j: int) -> Tensor:
        """The logits of step j: `(N, K)`, or `(positions · N, K)` where a step has several. The next step may
        overwrite them. Where a position has several codes, what these share, `(N, C)`."""
        ...


class DepthSteps(Steps, Protocol):
    """The emitted form where a position has several codes, each given those before it."""

    def heads(self, shared: Tensor, codes: Tensor) -> Tensor:
        """The logits `(N, depth K, 1, 1)` of a position, of what its codes share, `(N, C, 1, 1)`, and of those that are
        drawn, `(N, depth K, 1, 1)` one-hot, zeros for the others."""
        ...


class StepPart(Protocol):
    """Gives the tensor `(N, C)` of step j from what its buffers hold; the next step may overwrite it."""

    def __call__(self, j: int) -> Tensor: ...


class ReadingPart(StepPart, Protocol):
    input: list[Tensor]
    """By step: where the activations of its positions go, before the call."""


class ConvolutionPart(ReadingPart, Protocol):
    def gated(self, j: int, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """`glu` of what a call gives, added to `plus`."""
        ...


class LinearPart(Protocol):
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
        codes_so_far: `(N, H, W)`, or `(N, depth, H, W)`; zeros where nothing has been drawn.
    """

    blank: Tensor
    grid: tuple[int, int]
    codes_so_far: Tensor

    def fill(self, steps: Steps, choose: Choose, done: Callable[[int, int], None]) -> None:
        """Draw the whole map; `done(n, of)` tells of progress."""
        ...

    def codes(self, kernels: Sequence[Kernel], map: Map = unchanged, constants: Sequence[Tensor] = ()) -> StepPart:
        """What convolutions of the codes give, through a map."""
        ...

    def convolution(
        self,
        kernel: Kernel,
        map: Map = unchanged,
        constants: Sequence[Tensor] = (),
        *,
        of: tuple[Function, Any] | None = None,
        gate: bool = False,
    ) -> ConvolutionPart:
        """A causal convolution, through a map.

        Args:
            of: A function and another convolution of these buffers: its input is the function of what that one gives.
                Without, the input is written into `input` before the call.
            gate: Whether `gated` is called, and not the convolution.
        """
        ...

    def linear(self, map: Map, sizes: Sequence[int], constants: Sequence[Tensor] = ()) -> LinearPart:
        """A linear map of tensors with `sizes` channels."""
        ...

    def known(self, constant: Tensor) -> StepPart:
        """What is known beforehand, `(1 or N, C, 1 or H, 1 or W)`, position by position."""
        ...

    def attention(self, layer: Attention, keys: int, values: int) -> ReadingPart:
        """Causal attention with so many channels of keys and of values; it reads query, key and value side by side."""
        ...


class PriorModel(Protocol):
    """An `nn.Module` that gives the logits of each code from those before it in raster order.

    Attributes:
        CODES: What it is the prior of.
        CONDITIONS: What it is given, in the order of its arguments: codes of other latents, classes, numbers.
    """

    CODES: CodeMap
    CONDITIONS: tuple[CodeMap | Condition, ...]

    def __call__(self, codes: Tensor, *given: Tensor) -> Tensor:
        """Logits `(N, K, H, W)` of codes `(N, H, W)`; `(N, depth K, H, W)` of codes `(N, depth, H, W)`, where those of
        a depth see the depths before it at their own position, too."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class StepsClass(Protocol):
    """The class that `emit_steps` writes for a prior: it makes the form that draws a map position by position.

    Attributes:
        WAVEFRONT_SKEW: By how many columns each row falls behind the row above when all rows go on at once; None where
            only raster order will do, with attention.
    """

    WAVEFRONT_SKEW: int | None

    def __call__(self, prior: nn.Module, buffers: StepBuffers, *conditions: Tensor) -> Steps:
        """The steps of a prior with its weights, on the buffers of one map."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class StepwisePrior:
    """A prior, and the class of its position-by-position form, from which its code maps are drawn."""

    module: nn.Module
    steps: StepsClass

    @property
    def model(self) -> PriorModel:
        """The module, seen as a prior."""
        return as_prior(self.module)


def as_prior(model: nn.Module) -> PriorModel:
    """The same object, seen as a prior.

    Raises:
        HvdslError: It is not one.
    """
    missing = [name for name in ("CODES", "CONDITIONS") if not hasattr(model, name)]
    if missing:
        raise HvdslError(f"{type(model).__name__} is not a prior over codes: it has no `{missing[0]}`")
    return cast("PriorModel", model)


def code_conditions(prior: PriorModel) -> tuple[CodeMap, ...]:
    """What a prior is given as codes and classes."""
    return tuple(map for map in prior.CONDITIONS if isinstance(map, CodeMap))


def field_names(prior: PriorModel) -> tuple[str, ...]:
    """What a prior is given of the data: classes and numbers."""
    return tuple(map.name for map in prior.CONDITIONS if isinstance(map, Condition) or not map.grid)


def check_codes(prior: PriorModel, given: Sequence[Tensor], keep: tuple[Tensor, Tensor] | None, batch: int) -> None:
    """Refuse codes that are not what a prior takes.

    Raises:
        HvdslError: one is missing, of another shape, or out of range.
    """
    if len(given) != len(prior.CONDITIONS):
        wanted = ", ".join(f"`{g.name}`" for g in prior.CONDITIONS) or "nothing"
        raise HvdslError(f"the prior of `{prior.CODES.name}` is given {wanted}: {len(given)} tensors do not fit")
    for map, value in zip(prior.CONDITIONS, given, strict=True):
        if isinstance(map, CodeMap):
            _check(map, value, batch)
        elif len(checked_condition(map, {map.name: value})) != batch:
            raise HvdslError(f"`{map.name}` is of {len(value)} images, not of {batch}")
    if keep is not None:
        _check(prior.CODES, keep[0], batch)
        grid = (batch, *prior.CODES.grid)
        if tuple(keep[1].shape) != grid:
            raise HvdslError(f"the mask {tuple(keep[1].shape)} must have the codes' shape {grid}")


def _check(map: CodeMap, codes: Tensor, batch: int) -> None:
    if tuple(codes.shape) != (batch, *map.shape):
        raise HvdslError(f"`{map.name}` must be codes of shape {(batch, *map.shape)}, not {tuple(codes.shape)}")
    if codes.is_floating_point():
        raise HvdslError(f"`{map.name}` must be whole numbers, not {codes.dtype}")
    least = 0 if map.grid else -1  # a class may be left out
    if len(codes) and not (int(codes.min()) >= least and int(codes.max()) < map.classes):
        span = f"{int(codes.min())} to {int(codes.max())}"
        raise HvdslError(f"`{map.name}` holds codes from {span}; the prior knows 0 to {map.classes - 1}")
